// Pop-ups that say what became of something. They are read out, and go by themselves unless they warn.

import { button, element } from "./dom.js";
import { plural } from "./text.js";

const STAYS = 8000;
const region = element("div", { class: "toasts", role: "status", "aria-live": "polite" });

/** Where they appear. */
export function toasts() {
    return region;
}

/** Says that a change is in effect: its revision, and by how many shards it is used. */
export function confirmSaved(confirmed) {
    const { revision, shards, message, warnings = [], durable, connections_on_replaced: old } = confirmed;
    const details = [message];
    if (old > 0) details.push(`${plural(old, "connection")} on replaced addresses go on until they end.`);
    if (!durable) details.push("It is not on disk: it would not survive a crash of the machine.");
    show("good", `Saved as revision ${revision}, in use on ${plural(shards, "shard")}.`, details, warnings);
}

/** Says that something went wrong that no field is to blame for. */
export function complain(error) {
    const isPassing = error.status === 503;
    show("bad", sentence(error.message), isPassing ? ["Try again in a moment."] : []);
}

function show(kind, title, details, warnings = []) {
    let timer = 0;
    const toast = element(
        "div",
        { class: `toast ${kind}` },
        element(
            "div",
            { class: "toast-text" },
            element("strong", {}, title),
            details.map((text) => element("p", {}, text)),
            warnings.map((text) => element("p", { class: "warning" }, `Warning: ${text}`)),
        ),
        button("×", () => toast.remove(), { class: "quiet close", "aria-label": "Close this message" }),
    );
    const begin = () => {
        if (kind !== "bad" && warnings.length === 0) timer = setTimeout(() => toast.remove(), STAYS);
    };
    toast.addEventListener("pointerenter", () => clearTimeout(timer));
    toast.addEventListener("focusin", () => clearTimeout(timer));
    toast.addEventListener("pointerleave", begin);
    while (region.children.length >= 4) region.firstElementChild.remove();
    region.append(toast);
    begin();
}

/** A reason as a sentence. */
export function sentence(reason) {
    const begun = reason.charAt(0).toUpperCase() + reason.slice(1);
    return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
