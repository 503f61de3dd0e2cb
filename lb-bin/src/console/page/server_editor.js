// Editing a server in its row. While it is edited nothing of it is rebuilt, only its live numbers go on; a change of it
// that is made elsewhere meanwhile is told, not overwritten.

import { save, updateServer } from "./changes.js";
import { button, element, replace } from "./dom.js";
import { form } from "./field.js";
import { refresh, status } from "./live.js";
import { changedSettings, foldedFields, listOf, serverFields, updateFrom } from "./server_fields.js";

let editors = 0;

/**
 * Puts inputs into the cells of a row. `current` gives what is known of the server; `close` is called at the end with
 * the name that it has then.
 */
export function serverEditor(frontend, key, cells, current, close) {
    let base = current().server;
    const fields = serverFields(status().certificates ?? [], base, true);
    const places = [
        ["name", "name"],
        ["ip", "ip"],
        ["port", "port"],
        ["offload", "sslOffload"],
        ["passive", "passive"],
        ["certificate", "certificate"],
    ];
    for (const [cell, field] of places) replace(cells[cell].cell, fields[field].element);
    const conflict = element("div", { class: "conflict", role: "alert", hidden: true });
    const body = form(listOf(fields), [...foldedFields(fields), conflict], "Save", saveUpdate, () => close(key));
    const row = element("tr", { class: "editor" }, element("td", { colspan: 10 }, body));
    // The inputs in the cells above are outside of the form's element.
    editors += 1;
    body.id = `editor-${editors}`;
    for (const [, field] of places) fields[field].input.setAttribute("form", body.id);

    async function saveUpdate() {
        const update = updateFrom(fields, base);
        if (Object.keys(update).length === 0) return close(key);
        for (;;) {
            if (showConflict()) return conflict.querySelector("button").focus();
            try {
                await save(updateServer(frontend, key, update), status().revision);
                return close(update.rename ?? key);
            } catch (error) {
                if (error.status !== 409) throw error;
                // Something else may have been changed, or this server: the next turn finds out.
                await refresh();
            }
        }
    }

    /** Whether the server is another one than the one that is edited; tells how. */
    function showConflict() {
        const changes = changedSettings(base, current().server);
        if (changes.length === 0) {
            conflict.hidden = true;
            return false;
        }
        const list = changes.map(([field, old, now]) =>
            element("li", {}, `${field} `, element("del", {}, String(old)), " → ", element("ins", {}, String(now))),
        );
        const text = element(
            "div",
            {},
            element("strong", {}, "This server was changed elsewhere while you edit it:"),
            element("ul", { class: "difference" }, list),
        );
        if (conflict.dataset.shown !== text.textContent || conflict.hidden) {
            conflict.dataset.shown = text.textContent;
            replace(
                conflict,
                text,
                element("div", { class: "buttons" }, button("Keep mine", keepMine), button("Take theirs", takeTheirs)),
            );
        }
        conflict.hidden = false;
        return true;
    }

    function keepMine() {
        const before = base;
        base = current().server;
        // What was not touched here follows the change elsewhere.
        const fresh = serverFields(status().certificates ?? [], base);
        const old = serverFields(status().certificates ?? [], before);
        listOf(fields).forEach((field, index) => {
            if (same(field, listOf(old)[index])) field.set(listOf(fresh)[index].read());
        });
        conflict.hidden = true;
        body.querySelector("[type=submit]").focus();
    }

    function takeTheirs() {
        base = current().server;
        const fresh = listOf(serverFields(status().certificates ?? [], base));
        listOf(fields).forEach((field, index) => field.set(fresh[index].read()));
        conflict.hidden = true;
        fields.name.input.focus();
    }

    return {
        element: row,
        focus: () => fields.name.input.select(),
        close: () => close(key),
        update: showConflict,
        gone() {
            replace(
                conflict,
                element("strong", {}, "This server was deleted or renamed elsewhere meanwhile."),
                element(
                    "div",
                    { class: "buttons" },
                    button("Close", () => close(key)),
                ),
            );
            conflict.hidden = false;
            body.querySelector("[type=submit]").disabled = true;
        },
    };
}

function same(field, other) {
    try {
        return field.read() === other.read();
    } catch {
        return false;
    }
}
