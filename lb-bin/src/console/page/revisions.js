// The last revisions, and taking one back.

import { call } from "./api.js";
import { ask } from "./dialog.js";
import { differenceItem } from "./difference.js";
import { button, element, keyedList } from "./dom.js";
import { refresh } from "./live.js";
import * as text from "./text.js";
import { complain, confirmSaved, sentence } from "./toast.js";

/** The list; `update` takes the status and asks for the revisions when there is another one. */
export function revisions() {
    const list = element("ol", { class: "revisions" });
    const none = element("p", { class: "muted empty", hidden: true }, "Nothing was changed yet.");
    const updateRows = keyedList(list, revisionRow);
    let shown = null;

    async function load(revision) {
        shown = revision;
        try {
            const records = await call("GET", "history");
            updateRows(records.toReversed().map((record) => [record.revision, record]));
            none.hidden = records.length > 0;
        } catch {
            // The next status asks again.
            shown = null;
        }
    }

    return {
        element: element(
            "section",
            { class: "card", "aria-labelledby": "revisions" },
            element("header", { class: "card-head" }, element("h2", { id: "revisions" }, "Revisions")),
            none,
            list,
        ),
        update({ revision }) {
            if (revision !== shown) load(revision);
        },
    };
}

function revisionRow({ revision, at, summary }) {
    const undo = button("Undo", () => askUndo(revision), { class: "small", "aria-label": `Undo revision ${revision}` });
    return {
        element: element(
            "li",
            { "data-revision": revision },
            element(
                "div",
                { class: "revision-head" },
                element("strong", {}, `Revision ${revision}`),
                element("span", { class: "muted" }, text.time(at)),
                undo,
            ),
            element("ul", { class: "difference" }, summary.map(differenceItem)),
        ),
        update() {},
    };
}

/** Shows what taking a revision back would change, and does it if that is wanted. */
async function askUndo(revision) {
    let answer;
    try {
        answer = await call("POST", "undo", { revision }, { dry_run: true });
    } catch (error) {
        return complain(error);
    }
    const details = [
        element("p", {}, "It is taken back as a new revision. What would change:"),
        element(
            "ul",
            { class: "difference" },
            answer.changes.map(differenceItem),
            (answer.warnings ?? []).map((warning) => element("li", { class: "warning" }, sentence(warning))),
        ),
    ];
    ask(
        `Undo revision ${revision}?`,
        details,
        "Undo",
        async () => {
            confirmSaved(await call("POST", "undo", { revision }, { if_revision: answer.revision }));
            await refresh();
        },
        "primary",
    );
}
