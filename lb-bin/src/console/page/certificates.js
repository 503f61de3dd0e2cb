// Certificates: the pairs and bundles with their ends and their users.

import { removeCertificate, save } from "./changes.js";
import { openCertificateDialog } from "./certificate_dialog.js";
import { ask } from "./dialog.js";
import { button, element, keyedList, pill, replace, setText } from "./dom.js";
import * as text from "./text.js";

const COLUMNS = ["Name", "Kind", "For", "Issuer", "Key", "Expires", "Used by", "Action"];
const SOON = 30;

/** The view; `update` takes the status. */
export function certificatesView() {
    const head = element(
        "thead",
        {},
        element(
            "tr",
            {},
            COLUMNS.map((column) => element("th", { scope: "col" }, column)),
        ),
    );
    const body = element("tbody");
    const table = element(
        "table",
        { class: "certificates" },
        element("caption", { class: "unseen" }, "Certificates"),
        head,
        body,
    );
    const box = element("div", { class: "table-box card" }, table);
    const none = element("p", { class: "empty", hidden: true }, "No certificates yet.");
    const updateRows = keyedList(body, certificateRow);
    return {
        title: "Certificates",
        element: element(
            "div",
            { class: "view" },
            element(
                "div",
                { class: "view-head" },
                element("h1", {}, "Certificates"),
                button("Add Certificate", () => openCertificateDialog(), { class: "primary" }),
            ),
            none,
            box,
        ),
        update({ certificates = [] }) {
            updateRows(certificates.map((certificate) => [certificate.name, certificate]));
            none.hidden = certificates.length > 0;
            box.hidden = certificates.length === 0;
        },
    };
}

function certificateRow({ name }) {
    const td = (label) => element("td", { "data-label": label });
    const [kind, names, issuer, key, expires, users, action] = COLUMNS.slice(1).map(td);
    const end = pill();
    const date = element("span", { class: "why" });
    let now = null;
    replace(expires, element("div", { class: "state" }, end.element, date));
    replace(
        action,
        element(
            "div",
            { class: "actions" },
            button("Replace", () => openCertificateDialog(now), { class: "small", "aria-label": `Replace ${name}` }),
            button("Delete", remove, { class: "small danger-text", "aria-label": `Delete ${name}` }),
        ),
    );

    function remove() {
        const details = element(
            "p",
            {},
            now.used_by.length > 0
                ? `It is used by ${now.used_by.join(", ")}, so it can't be deleted.`
                : "Nobody uses it. Its key, if it has one, is forgotten.",
        );
        ask(`Delete certificate ${name}?`, details, "Delete", () => save(removeCertificate(name)));
    }

    return {
        element: element(
            "tr",
            { "data-certificate": name },
            element("th", { scope: "row", "data-label": "Name", class: "name" }, name),
            kind,
            names,
            issuer,
            key,
            expires,
            users,
            action,
        ),
        update(certificate) {
            now = certificate;
            const { kind: word, certificates } = certificate;
            setText(kind, word === "pair" ? "Pair" : `Bundle of ${certificates}`);
            setText(names, certificate.names.length > 0 ? certificate.names.join(", ") : certificate.subject);
            setText(issuer, certificate.issuer);
            setText(key, certificate.key);
            end.set(...endState(certificate.expires_in_days));
            setText(date, text.date(certificate.not_after));
            setText(users, certificate.used_by.length > 0 ? certificate.used_by.join(", ") : "nobody");
        },
    };
}

function endState(days) {
    if (days < 0) return ["bad", "Expired"];
    return [days < SOON ? "warn" : "good", `in ${text.plural(days, "day")}`];
}
