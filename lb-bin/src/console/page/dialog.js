// Dialogs: modal, closed by Escape, and the focus goes back to where it was.

import { button, element } from "./dom.js";
import { sentence } from "./toast.js";

let count = 0;

/** Opens a dialog with a title. It is thrown away when it is closed. */
export function openDialog(title, content, { className = "", onclose = () => {} } = {}) {
    count += 1;
    const id = `dialog-title-${count}`;
    const before = document.activeElement;
    const dialog = element(
        "dialog",
        { class: className, "aria-labelledby": id },
        element(
            "header",
            {},
            element("h2", { id }, title),
            button("×", () => dialog.close(), { class: "quiet close", "aria-label": "Close" }),
        ),
        content,
    );
    dialog.addEventListener("close", () => {
        dialog.remove();
        onclose();
        if (before?.isConnected) before.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

/** Asks before `action` is done; its refusal is shown in the dialog. `details` are elements. */
export function ask(title, details, word, action, className = "danger") {
    const problem = element("p", { class: "problem", role: "alert" });
    const confirm = button(word, () => run(), { class: className });
    const content = element(
        "div",
        { class: "dialog-body" },
        details,
        problem,
        element(
            "div",
            { class: "buttons" },
            confirm,
            button("Cancel", () => dialog.close()),
        ),
    );
    const dialog = openDialog(title, content, { className: "narrow" });
    confirm.focus();

    async function run() {
        confirm.disabled = true;
        problem.textContent = "";
        try {
            await action();
            dialog.close();
        } catch (error) {
            problem.textContent = sentence(error.message);
            confirm.disabled = false;
            confirm.focus();
        }
    }
    return dialog;
}
