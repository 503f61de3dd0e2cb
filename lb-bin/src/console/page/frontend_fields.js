// The settings of a frontend: what they are called, how they are edited, and how they are sent. Settings that are made
// of others (`check`, `cookie`, `http`, `ip_persistence`) are edited part by part, under names such as
// `check.interval`.

import { element } from "./dom.js";
import { numberField, selectField, switchField, textField, WrongField } from "./field.js";

const NONE = "none";
const POLICIES = [
    ["round_robin", "Round robin"],
    ["least_connections", "Least connections"],
    ["random_two", "Random two"],
    ["least_latency", "Least latency"],
    ["source_hash", "Source hash"],
];
const PROTOCOLS = [
    ["tcp", "TCP"],
    ["http", "HTTP"],
    ["https", "HTTPS"],
];
const CHECKS = [
    ["tcp", "TCP connect"],
    ["http", "HTTP request"],
    ["tls", "TLS handshake"],
    ["send_expect", "Send and expect"],
    ["off", "Off"],
];

/** Each setting: its name, what it is called, its kind, its default, and what else is to be said. By groups. */
const GROUPS = [
    [
        "Basics",
        [
            ["name", "Name", "text", ""],
            ["bind", "Address", "text", "", "Where clients connect: 0.0.0.0:80, [::]:80"],
            ["protocol", "Protocol", PROTOCOLS, "tcp"],
            ["policy", "Policy", POLICIES, "round_robin", "How a server is chosen."],
        ],
    ],
    [
        "Limits and timeouts",
        [
            ["max_connections", "Connections at most", "limit", 0],
            ["connect_timeout", "Connect timeout", "text", "5s"],
            ["redispatch_timeout", "Redispatch timeout", "text", "15s", "For all servers that are tried for a client."],
            ["idle_timeout", "Idle timeout", "text", "10m"],
            ["queue", "Queue", "number", 1024, "Clients that may wait for a server."],
            ["queue_timeout", "Queue timeout", "text", "5s"],
            ["on_unavailable", "Without a server", "call", "reset", "reset or wait(5s)"],
        ],
    ],
    [
        "Checks",
        [
            ["check.kind", "Check", CHECKS, "tcp"],
            ["check.path", "Path", "text", "/"],
            ["check.host", "Host", "optional", NONE, "Instead of the server's address."],
            ["check.status", "Status", "limit", 0, "The only one that passes, instead of 200 to 399."],
            ["check.send", "Send", "escaped", "", "\\r\\n is a line's end."],
            ["check.expect", "Expect", "escaped", ""],
            ["check.interval", "Interval", "text", "2s"],
            ["check.timeout", "Timeout", "text", "2s"],
            ["check.fall", "Failures until down", "number", 3],
            ["check.rise", "Successes until up", "number", 2],
            ["slow_start", "Slow start", "text", "0s"],
        ],
    ],
    [
        "Ejection and standbys",
        [
            ["eject_after", "Eject after failures", "number", 5, "0 is never."],
            ["eject_time", "Eject for", "text", "10s"],
            ["eject_time_max", "Eject for at most", "text", "5m"],
            ["max_ejected", "Ejected at most, in percent", "number", 50],
            [
                "passive_use",
                "Passive servers used",
                [
                    ["all", "All"],
                    ["first", "The first"],
                ],
                "all",
            ],
            [
                "passive_when",
                "Passive servers used when",
                "call",
                "fewer_than(1)",
                "fewer_than(2): fewer active ones are available.",
            ],
            ["passive_connections", "Their connections afterwards", "call", "keep", "keep or drain_after(30s)"],
            ["fail_back_after", "Fail back after", "text", "0s"],
        ],
    ],
    [
        "TLS and networks",
        [
            ["certificates", "Certificates", "list", "", "Names of pairs, the default one first."],
            ["alpn", "ALPN", "list", "", "Protocols that are offered: h2, http/1.1"],
            ["client_ca", "CA of clients", "bundle", NONE],
            [
                "client_auth",
                "Clients' certificates",
                [
                    ["required", "Required"],
                    ["optional", "Optional"],
                ],
                "required",
            ],
            ["handshake_timeout", "Handshake timeout", "text", "10s"],
            ["max_handshakes", "Handshakes per shard", "number", 2000],
            [
                "sni_routes",
                "Routes by name",
                "routes",
                "",
                "www.example.com *.example.org = blue; api.example.com = green",
            ],
            ["accept_proxy_from", "PROXY headers from", "list", "", "Networks: 10.0.0.0/8, ::1"],
        ],
    ],
    [
        "HTTP",
        [
            ["http.max_line", "Bytes of the first line", "number", 8192],
            ["http.max_fields", "Header fields", "number", 100],
            ["http.max_head", "Bytes of the head", "number", 32768],
            ["http.header_timeout", "Header timeout", "text", "10s"],
            ["http.keep_alive_timeout", "Keep-alive timeout", "text", "1m"],
            ["http.response_timeout", "Response timeout", "text", "1m"],
            ["http.x_forwarded", "Add X-Forwarded-For", "switch", true],
            ["http.forwarded", "Add Forwarded", "switch", false],
        ],
    ],
    [
        "Persistence",
        [
            ["cookie.name", "Cookie", "text", "LBSERVER"],
            ["cookie.mode", "Mode", "call", "insert", "insert or passive(NAME)"],
            ["cookie.max_age", "Max-Age", "optional", NONE],
            ["cookie.domain", "Domain", "optional", NONE],
            ["cookie.path", "Path", "text", "/"],
            ["cookie.strip", "Take it from requests", "switch", false],
            ["ip_persistence.on", "By client address", "switch", false],
            ["ip_persistence.ttl", "Remembered for", "text", "30m"],
            ["ip_persistence.size", "Clients remembered", "number", 1000000],
            ["ip_persistence.prefix_v4", "Bits of IPv4", "number", 32],
            ["ip_persistence.prefix_v6", "Bits of IPv6", "number", 64],
        ],
    ],
];
const ALL = GROUPS.flatMap(([, settings]) => settings);
/** Settings that mean something only for one kind of check. */
const CHECK_PARTS = {
    "check.path": "http",
    "check.host": "http",
    "check.status": "http",
    "check.send": "send_expect",
    "check.expect": "send_expect",
};
const COMPOSED = ["check", "cookie", "http", "ip_persistence"];

/** The fields with the settings of `frontend`, or those of a new one: `{ list, element }`. */
export function frontendFields(certificates, frontend) {
    const set = frontend ? flat(frontend) : defaults();
    const list = [];
    const groups = GROUPS.map(([title, settings], index) => {
        const fields = settings.map(([name, label, kind, , hint]) =>
            fieldOf(name, label, kind, hint, set[name], certificates),
        );
        list.push(...fields);
        const grid = element(
            "div",
            { class: "grid" },
            fields.map((field) => field.element),
        );
        return index === 0 ? grid : element("details", {}, element("summary", {}, title), grid);
    });
    list[0].aliases = ["rename"];
    const kind = list.find((field) => field.name === "check.kind");
    const showParts = () => {
        for (const field of list)
            if (field.name in CHECK_PARTS) field.element.hidden = CHECK_PARTS[field.name] !== kind.read();
    };
    kind.input.addEventListener("change", showParts);
    showParts();
    return { list, element: element("div", {}, groups) };
}

/** What a new frontend is to be, from its fields. */
export function frontendFrom(fields) {
    return sent(defaults(), read(fields), {});
}

/** What is to be changed of `frontend`, from its fields. Empty if it is the same. */
export function frontendUpdateFrom(fields, frontend) {
    const { name, ...update } = sent(flat(frontend), read(fields), frontend);
    return name === undefined ? update : { rename: name, ...update };
}

/** The settings that differ between two states of a frontend, as `[field, old, new]`. */
export function changedFrontendSettings(old, now) {
    const before = flat(old);
    return Object.entries(flat(now))
        .filter(([key, value]) => value !== before[key])
        .map(([key, value]) => [key, before[key], value]);
}

function fieldOf(name, label, kind, hint, value, certificates) {
    const set = { value, hint };
    const orNone = {
        read: (text) => text.trim() || NONE,
        write: (value) => (value === NONE ? "" : value),
        placeholder: "none",
    };
    if (Array.isArray(kind)) return selectField(name, label, kind, set);
    switch (kind) {
        case "number":
            return numberField(name, label, set);
        case "limit":
            return numberField(name, label, {
                none: 0,
                write: (value) => (value === 0 ? "" : String(value)),
                placeholder: "none",
                ...set,
            });
        case "switch":
            return switchField(name, label, set);
        case "optional":
            return textField(name, label, { ...orNone, ...set });
        case "bundle": {
            const bundles = certificates.filter((one) => one.kind === "bundle").map(({ name }) => [name, name]);
            return selectField(name, label, [[NONE, "None"], ...bundles], set);
        }
        default:
            return textField(name, label, set);
    }
}

function read(fields) {
    return Object.fromEntries(fields.list.map((field) => [field.name, field.read()]));
}

function defaults() {
    return Object.fromEntries(ALL.map(([name, , , value]) => [name, value]));
}

/** The settings of a frontend, each as its field shows it. */
function flat(frontend) {
    const check = frontend.check ?? {};
    const [kind, asked] = typeof check.kind === "object" ? Object.entries(check.kind)[0] : [check.kind, {}];
    const parts = {
        ...frontend,
        check: { ...check, kind, ...asked },
        ip_persistence: { on: frontend.ip_persistence !== undefined, ...frontend.ip_persistence },
    };
    return Object.fromEntries(
        ALL.map(([name, , kind, value]) => {
            const [first, second] = name.split(".");
            const own = second ? parts[first]?.[second] : parts[first];
            return [name, own === undefined || own === null ? value : shown(kind, own)];
        }),
    );
}

function shown(kind, value) {
    if (kind === "list") return value.join(", ");
    if (kind === "routes") return value.map(({ names, group }) => `${names.join(" ")} = ${group}`).join("; ");
    if (kind === "escaped") return JSON.stringify(value).slice(1, -1);
    if (typeof value !== "object") return value;
    const [word, argument] = Object.entries(value)[0];
    return `${word}(${argument})`;
}

/** What is sent of the settings that differ, as the configuration has them. */
function sent(old, now, frontend) {
    const changed = ALL.filter(([name]) => now[name] !== old[name]);
    const update = {};
    for (const [name, , kind] of changed) {
        const [first, second] = name.split(".");
        if (!second) update[first] = value(kind, name, now[name]);
        else if (COMPOSED.includes(first)) update[first] ??= composed(first, now, frontend);
    }
    return update;
}

/** A setting that is made of others, as a whole. */
function composed(name, now, frontend) {
    const parts = {};
    for (const [path, , kind] of ALL.filter(([path]) => path.startsWith(`${name}.`))) {
        if (now[path] !== NONE) parts[path.split(".")[1]] = value(kind, path, now[path]);
    }
    if (name === "check") return composedCheck(parts);
    if (name !== "ip_persistence") return parts;
    const { on, ...settings } = parts;
    return on ? settings : frontend.name === undefined ? undefined : NONE;
}

function composedCheck({ path, host, status, send, expect, kind, ...times }) {
    if (kind === "http") return { kind: { http: { path, host, status: status || undefined } }, ...times };
    if (kind === "send_expect") return { kind: { send_expect: { send, expect } }, ...times };
    return { kind, ...times };
}

function value(kind, name, shown) {
    if (kind === "list") return shown.split(/[\s,]+/).filter((word) => word !== "");
    if (kind === "routes")
        return shown
            .split(";")
            .filter((route) => route.trim() !== "")
            .map((route) => routeOf(name, route));
    if (kind === "escaped") return unescaped(name, shown);
    const call = (kind === "call" || Array.isArray(kind)) && String(shown).match(/^(\w+)\((.*)\)$/);
    if (!call) return shown;
    return { [call[1]]: /^\d+$/.test(call[2]) ? Number(call[2]) : call[2].replace(/^"(.*)"$/, "$1") };
}

function routeOf(name, route) {
    const [names, group, ...rest] = route.split("=").map((part) => part.trim());
    if (!group || rest.length > 0)
        throw new WrongField(name, `"${route.trim()}" is not a route: write www.example.com = blue`);
    return { names: names.split(/[\s,]+/).filter((word) => word !== ""), group };
}

function unescaped(name, text) {
    try {
        return JSON.parse(`"${text}"`);
    } catch {
        throw new WrongField(name, "a quotation mark or a backslash is written with a backslash before it");
    }
}
