// The fields of a server, for the dialog that adds one and for the row that is edited in place.

import { FRONTENDS, followKind, sentCheck, SERVER_CHECK, shownCheck } from "./check_fields.js";
import { element } from "./dom.js";
import { numberField, selectField, switchField, textField } from "./field.js";
import { NONE, settingField } from "./setting.js";

const DEFAULTS = {
    weight: 1,
    max_connections: 0,
    ssl_offload: false,
    passive: false,
    server_certificate: NONE,
    server_name: NONE,
    verify_name: true,
    client_certificate: NONE,
    send_proxy: "off",
    group: NONE,
};
const SENDS_PROXY = [
    ["off", "No"],
    ["v1", "Version 1 (text)"],
    ["v2", "Version 2 (binary)"],
];

/** The fields with the values of `server`, or those of a new one: those that are asked for first, and the others. */
export function serverFields(certificates, server = {}, isCompact = false) {
    const set = valuesOf(server);
    const names = (kind) => [
        [NONE, "None"],
        ...certificates.filter((one) => one.kind === kind).map(({ name }) => [name, name]),
    ];
    const text = (name, label, options) => textField(name, label, { value: set[name], ...options });
    const orNone = (name, label, options) =>
        text(name, label, {
            read: (text) => text.trim() || NONE,
            write: (value) => (value === NONE ? "" : value),
            ...options,
        });
    const name = text("name", "Server Name", { isCompact });
    name.aliases = ["rename"];
    const port = numberField("port", "Port", { value: set.port, isCompact, what: "a port of 1 to 65535" });
    const limit = numberField("max_connections", "Connections at most", {
        value: set.max_connections,
        none: 0,
        write: (value) => (value === 0 ? "" : String(value)),
        placeholder: "no limit",
    });
    const check = SERVER_CHECK.map(([name, label, kind, , hint]) => settingField(name, label, kind, set[name], hint));
    followKind(check);
    return {
        name,
        ip: text("ip", "IP Address", { isCompact }),
        port,
        sslOffload: switchField("ssl_offload", "SSL Offload", {
            value: set.ssl_offload,
            isCompact,
            hint: isCompact ? undefined : "The client's TLS ends here.",
        }),
        passive: switchField("passive", "Passive", {
            value: set.passive,
            isCompact,
            hint: isCompact ? undefined : "A standby: it serves only when the active servers can't.",
        }),
        certificate: selectField("server_certificate", "Server Certificate", names("bundle"), {
            value: set.server_certificate,
            isCompact,
            hint: isCompact
                ? undefined
                : "With a bundle of CAs the server is talked to in TLS and its certificate is checked.",
        }),
        more: [
            numberField("weight", "Weight", { value: set.weight, hint: "Its share, 1 to 256." }),
            limit,
            orNone("server_name", "Name in its certificate", { value: set.server_name, placeholder: "its IP address" }),
            switchField("verify_name", "Check that name", { value: set.verify_name }),
            selectField("client_certificate", "Certificate shown to it", names("pair"), {
                value: set.client_certificate,
            }),
            selectField("send_proxy", "PROXY header", SENDS_PROXY, { value: set.send_proxy }),
            orNone("group", "Group", { value: set.group, placeholder: "none", hint: "For routes by name." }),
        ],
        check,
    };
}

/** All of them in one list. */
export function listOf({ name, ip, port, sslOffload, passive, certificate, more, check }) {
    return [name, ip, port, sslOffload, passive, certificate, ...more, ...check];
}

/** Those that are asked for last, folded away. */
export function foldedFields({ more, check }) {
    return [
        ["More settings", more],
        ["Check", check],
    ].map(([title, fields]) => {
        const grid = element(
            "div",
            { class: "grid" },
            fields.map((field) => field.element),
        );
        return element("details", {}, element("summary", {}, title), grid);
    });
}

/** What a new server is to be, from its fields. */
export function serverFrom(fields) {
    return sent(valuesOf({}), read(fields));
}

/** What is to be changed of `server`, from its fields. Empty if it is the same. */
export function updateFrom(fields, server) {
    const { name, ...update } = sent(valuesOf(server), read(fields));
    return name === undefined ? update : { rename: name, ...update };
}

/** The settings that differ between two states of a server, as `[field, old, new]`. */
export function changedSettings(old, now) {
    const before = valuesOf(old);
    return Object.entries(valuesOf(now))
        .filter(([key, value]) => value !== before[key])
        .map(([key, value]) => [key, before[key], value]);
}

function valuesOf({ name, ip, port, ...server }) {
    const more = Object.keys(DEFAULTS).map((key) => [key, server[key] ?? DEFAULTS[key]]);
    return { name, ip, port, ...Object.fromEntries(more), ...shownCheck(SERVER_CHECK, server.check?.own) };
}

function read(fields) {
    return Object.fromEntries(listOf(fields).map((field) => [field.name, field.read()]));
}

/** What is sent of the settings that differ. A check is sent as a whole. */
function sent(old, now) {
    const changed = Object.entries(now).filter(([key, value]) => value !== old[key]);
    const isOfCheck = ([key]) => key.startsWith("check.");
    const update = Object.fromEntries(changed.filter((one) => !isOfCheck(one)));
    if (changed.some(isOfCheck)) update.check = now["check.kind"] === FRONTENDS ? FRONTENDS : { own: sentCheck(now) };
    return update;
}
