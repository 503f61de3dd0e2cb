// The settings of a check, of a frontend or a server's own. They are edited part by part, under names such as
// `check.interval`.

import { NONE, sent, shown } from "./setting.js";

/** The kind of a server's check that is its frontend's. */
export const FRONTENDS = "frontend";
const KINDS = [
    ["tcp", "TCP connect"],
    ["http", "HTTP request"],
    ["tls", "TLS handshake"],
    ["send_expect", "Send and expect"],
    ["off", "Off"],
];

/** Each setting: its name, what it is called, its kind, its default, and what else is to be said. */
export const CHECK = [
    ["check.kind", "Check", KINDS, "tcp"],
    ["check.path", "Path", "text", "/"],
    ["check.host", "Host", "optional", NONE, "Instead of the server's address."],
    ["check.status", "Status", "limit", 0, "The only one that passes, instead of 200 to 399."],
    ["check.send", "Send", "escaped", "", "\\r\\n is a line's end."],
    ["check.expect", "Expect", "escaped", ""],
    ["check.interval", "Interval", "text", "2s"],
    ["check.timeout", "Timeout", "text", "2s"],
    ["check.fall", "Failures until down", "number", 3],
    ["check.rise", "Successes until up", "number", 2],
];
/** The same for a server. */
export const SERVER_CHECK = CHECK.map(([name, label, kind, value, hint]) =>
    name === "check.kind"
        ? [name, label, [[FRONTENDS, "As the frontend"], ...kind], FRONTENDS, hint]
        : [name, label, kind, value, hint],
);
/** Settings that mean something only for one kind of check. */
const PARTS = {
    "check.path": "http",
    "check.host": "http",
    "check.status": "http",
    "check.send": "send_expect",
    "check.expect": "send_expect",
};

/** A check's settings, each as its field shows it. */
export function shownCheck(settings, { kind, ...check } = {}) {
    const [word, asked] = typeof kind === "object" ? Object.entries(kind)[0] : [kind, {}];
    const parts = { kind: word, ...asked, ...check };
    return Object.fromEntries(
        settings.map(([name, , kind, value]) => {
            const own = parts[name.split(".")[1]];
            return [name, own === undefined || own === null ? value : shown(kind, own)];
        }),
    );
}

/** The check that fields show, as the configuration has it. */
export function sentCheck(now) {
    const parts = CHECK.filter(([name]) => now[name] !== NONE).map(([name, , kind]) => [
        name.split(".")[1],
        sent(kind, name, now[name]),
    ]);
    const { path, host, status, send, expect, kind, ...times } = Object.fromEntries(parts);
    if (kind === "http") return { kind: { http: { path, host, status: status || undefined } }, ...times };
    if (kind === "send_expect") return { kind: { send_expect: { send, expect } }, ...times };
    return { kind, ...times };
}

/** Shows, of the fields of a check, those that mean something for its kind. What is hidden reads as its default. */
export function followKind(fields) {
    const kind = fields.find((field) => field.name === "check.kind");
    const parts = CHECK.filter(([name]) => name !== "check.kind").map(([name, , , value]) => {
        const field = fields.find((field) => field.name === name);
        const { read } = field;
        field.read = () => (field.element.hidden ? value : read());
        return field;
    });
    const show = () => {
        const now = kind.read();
        for (const { name, element } of parts) element.hidden = now === FRONTENDS || (PARTS[name] ?? now) !== now;
    };
    const { set } = kind;
    kind.set = (value) => {
        set(value);
        show();
    };
    kind.input.addEventListener("change", show);
    show();
}
