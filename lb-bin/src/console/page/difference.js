// Collected changes: the bar that counts them, and the view of what they would change before they are saved as one
// revision.

import { collectedChanges, onCollected, proposed, saveCollected, setCollected } from "./changes.js";
import { openDialog } from "./dialog.js";
import { button, element, replace, setText } from "./dom.js";
import { plural } from "./text.js";
import { sentence } from "./toast.js";

/** The bar, which is there while something is collected. */
export function collectedBar() {
    const text = element("span", { class: "collected-count", role: "status" });
    const bar = element(
        "div",
        { class: "collected-bar", role: "region", "aria-label": "Collected changes", hidden: true },
        text,
        button("Review and save", openDifference, { class: "primary" }),
        button("Discard all", () => setCollected([])),
    );
    onCollected(() => {
        const count = collectedChanges().length;
        bar.hidden = count === 0;
        setText(text, `${plural(count, "change")} collected, not saved yet`);
    });
    return bar;
}

function openDifference() {
    const list = element("ol", { class: "collected" });
    const difference = element("ul", { class: "difference", "aria-label": "Difference" });
    const problem = element("p", { class: "problem", role: "alert" });
    const confirm = button("Save all as one revision", saveAll, { class: "primary" });
    const content = element(
        "div",
        { class: "dialog-body" },
        element("h3", {}, "Collected"),
        list,
        element("h3", {}, "What would change"),
        difference,
        problem,
        element(
            "div",
            { class: "buttons" },
            confirm,
            button("Close", () => dialog.close()),
        ),
    );
    const dialog = openDialog("Review changes", content, { className: "wide" });
    let revision;
    show();

    async function show() {
        const changes = collectedChanges();
        if (changes.length === 0) return dialog.close();
        replace(
            list,
            changes.map((change) =>
                element(
                    "li",
                    {},
                    element("span", {}, change.title),
                    button("Remove", () => remove(change), { class: "small", "aria-label": `Remove: ${change.title}` }),
                ),
            ),
        );
        problem.textContent = "";
        confirm.disabled = true;
        try {
            const answer = await proposed(changes);
            revision = answer.revision;
            const warnings = answer.warnings ?? [];
            replace(
                difference,
                answer.changes.map(differenceItem),
                warnings.map((warning) => element("li", { class: "warning" }, `Warning: ${warning}`)),
            );
            confirm.disabled = false;
            if (!dialog.contains(document.activeElement) || document.activeElement === dialog) confirm.focus();
        } catch (error) {
            replace(difference);
            problem.textContent = sentence(error.message);
        }
    }

    function remove(change) {
        setCollected(collectedChanges().filter((one) => one !== change));
        show();
    }

    async function saveAll() {
        confirm.disabled = true;
        try {
            await saveCollected(revision);
            dialog.close();
        } catch (error) {
            await show();
            problem.textContent =
                error.status === 409
                    ? "Something was changed elsewhere meanwhile. Look at the difference again, then save."
                    : sentence(error.message);
        }
    }
}

/** A sentence of what changes, its `old → new` told apart. */
export function differenceItem(text) {
    const begin = text.indexOf(": ");
    if (begin === -1 || !text.includes(" → ")) return element("li", {}, sentence(text));
    const parts = text
        .slice(begin + 2)
        .split(/, (?=[a-z_]+ .*? → )/)
        .map((part) => {
            const [, field, old, now] = part.match(/^(\S+) (.*?) → (.*)$/s) ?? [];
            if (field === undefined) return element("li", {}, part);
            return element("li", {}, `${field} `, element("del", {}, old), " → ", element("ins", {}, now));
        });
    return element("li", {}, sentence(text.slice(0, begin)), element("ul", {}, parts));
}
