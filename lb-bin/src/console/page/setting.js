// The kinds of settings: how each is edited, shown and sent.

import { numberField, selectField, switchField, textField, WrongField } from "./field.js";

/** What stands for a setting that is not there. */
export const NONE = "none";

/** The field of a setting, with the value that it shows. A kind that is a list has the choices. */
export function settingField(name, label, kind, value, hint, certificates = []) {
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

/** What a field shows of the value that a setting has. */
export function shown(kind, value) {
    if (kind === "list") return value.join(", ");
    if (kind === "routes") return value.map(({ names, group }) => `${names.join(" ")} = ${group}`).join("; ");
    if (kind === "escaped") return JSON.stringify(value).slice(1, -1);
    if (typeof value !== "object") return value;
    const [word, argument] = Object.entries(value)[0];
    return `${word}(${argument})`;
}

/** What is sent for what a field shows. */
export function sent(kind, name, shown) {
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
