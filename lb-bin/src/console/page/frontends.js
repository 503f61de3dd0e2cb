// TCP Config: the frontends, and the switch that collects changes instead of saving each at once.

import { collects, onCollected, setCollecting } from "./changes.js";
import { button, element } from "./dom.js";
import { switchField } from "./field.js";
import { frontendCards } from "./frontend_card.js";
import { openAddFrontend } from "./frontend_dialog.js";

/** The view; `update` takes the status. */
export function tcpConfig() {
    const collect = switchField("collect", "Collect changes", {
        hint: "Look at them together, then save them as one revision.",
    });
    collect.input.addEventListener("change", () => setCollecting(collect.input.checked));
    onCollected(() => collect.set(collects()));
    const cards = element("div", { class: "cards" });
    const none = element(
        "p",
        { class: "empty", hidden: true },
        "No frontends yet. A frontend is an address where clients connect.",
    );
    const update = frontendCards(cards);
    return {
        title: "TCP Config",
        element: element(
            "div",
            { class: "view" },
            element(
                "div",
                { class: "view-head" },
                element("h1", {}, "TCP Config"),
                collect.element,
                button("Add Frontend", openAddFrontend, { class: "primary" }),
            ),
            none,
            cards,
        ),
        update(status) {
            update(status.frontends);
            none.hidden = status.frontends.length > 0;
        },
    };
}
