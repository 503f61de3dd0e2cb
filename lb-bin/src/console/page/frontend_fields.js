// The settings of a frontend: what they are called, and how they are sent. Settings that are made of others (`check`,
// `cookie`, `http`, `ip_persistence`) are edited part by part, under names such as `cookie.path`.

import { CHECK, followKind, sentCheck, shownCheck } from "./check_fields.js";
import { element } from "./dom.js";
import { NONE, sent, settingField, shown } from "./setting.js";

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
            ...CHECK,
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
const COMPOSED = ["check", "cookie", "http", "ip_persistence"];

/** The fields with the settings of `frontend`, or those of a new one: `{ list, element }`. */
export function frontendFields(certificates, frontend) {
    const set = frontend ? flat(frontend) : defaults();
    const list = [];
    const groups = GROUPS.map(([title, settings], index) => {
        const fields = settings.map(([name, label, kind, , hint]) =>
            settingField(name, label, kind, set[name], hint, certificates),
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
    followKind(list);
    return { list, element: element("div", {}, groups) };
}

/** What a new frontend is to be, from its fields. */
export function frontendFrom(fields) {
    return changes(defaults(), read(fields), {});
}

/** What is to be changed of `frontend`, from its fields. Empty if it is the same. */
export function frontendUpdateFrom(fields, frontend) {
    const { name, ...update } = changes(flat(frontend), read(fields), frontend);
    return name === undefined ? update : { rename: name, ...update };
}

/** The settings that differ between two states of a frontend, as `[field, old, new]`. */
export function changedFrontendSettings(old, now) {
    const before = flat(old);
    return Object.entries(flat(now))
        .filter(([key, value]) => value !== before[key])
        .map(([key, value]) => [key, before[key], value]);
}

function read(fields) {
    return Object.fromEntries(fields.list.map((field) => [field.name, field.read()]));
}

function defaults() {
    return Object.fromEntries(ALL.map(([name, , , value]) => [name, value]));
}

/** The settings of a frontend, each as its field shows it. */
function flat(frontend) {
    const parts = {
        ...frontend,
        ip_persistence: { on: frontend.ip_persistence !== undefined, ...frontend.ip_persistence },
    };
    const others = ALL.filter(([name]) => !name.startsWith("check.")).map(([name, , kind, value]) => {
        const [first, second] = name.split(".");
        const own = second ? parts[first]?.[second] : parts[first];
        return [name, own === undefined || own === null ? value : shown(kind, own)];
    });
    return { ...Object.fromEntries(others), ...shownCheck(CHECK, frontend.check) };
}

/** What is sent of the settings that differ, as the configuration has them. */
function changes(old, now, frontend) {
    const changed = ALL.filter(([name]) => now[name] !== old[name]);
    const update = {};
    for (const [name, , kind] of changed) {
        const [first, second] = name.split(".");
        if (!second) update[first] = sent(kind, name, now[name]);
        else if (COMPOSED.includes(first)) update[first] ??= composed(first, now, frontend);
    }
    return update;
}

/** A setting that is made of others, as a whole. */
function composed(name, now, frontend) {
    if (name === "check") return sentCheck(now);
    const parts = {};
    for (const [path, , kind] of ALL.filter(([path]) => path.startsWith(`${name}.`))) {
        if (now[path] !== NONE) parts[path.split(".")[1]] = sent(kind, path, now[path]);
    }
    if (name !== "ip_persistence") return parts;
    const { on, ...settings } = parts;
    return on ? settings : frontend.name === undefined ? undefined : NONE;
}
