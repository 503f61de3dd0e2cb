// The dialogs that add a frontend and that change one's settings.

import { addFrontend, save, updateFrontend } from "./changes.js";
import { openDialog } from "./dialog.js";
import { form } from "./field.js";
import { changedFrontendSettings, frontendFields, frontendFrom, frontendUpdateFrom } from "./frontend_fields.js";
import { refresh, status } from "./live.js";

/** Opens the one that adds a frontend. */
export function openAddFrontend() {
    const fields = frontendFields(status().certificates ?? []);
    open("Add Frontend", "Add Frontend", fields, () => save(addFrontend(frontendFrom(fields))));
}

/** Opens the one that changes the settings of a frontend. */
export function openFrontendSettings(name) {
    let base = settings(name);
    if (!base) return;
    const fields = frontendFields(status().certificates ?? [], base);
    open(`Settings of ${name}`, "Save", fields, async () => {
        const update = frontendUpdateFrom(fields, base);
        if (Object.keys(update).length === 0) return;
        for (;;) {
            const now = settings(name);
            if (!now) throw new Error(`frontend ${name} was deleted or renamed elsewhere meanwhile`);
            const changes = changedFrontendSettings(base, now).map(([field, old, now]) => `${field} ${old} → ${now}`);
            if (changes.length > 0) {
                base = now;
                throw new Error(
                    `it was changed elsewhere meanwhile: ${changes.join(", ")}. Save again to put what is here in its place`,
                );
            }
            try {
                return await save(updateFrontend(name, update), status().revision);
            } catch (error) {
                if (error.status !== 409) throw error;
                await refresh();
            }
        }
    });
}

function open(title, word, fields, act) {
    const body = form(
        fields.list,
        fields.element,
        word,
        async () => {
            await act();
            dialog.close();
        },
        () => dialog.close(),
    );
    body.classList.add("dialog-body");
    const dialog = openDialog(title, body, { className: "wide" });
    fields.list[0].input.focus();
}

function settings(name) {
    return status().frontends.find((one) => one.frontend.name === name)?.frontend;
}
