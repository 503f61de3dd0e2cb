// The list of a frontend's servers.

import { element, keyedList } from "./dom.js";
import { serverRow } from "./server_row.js";

const COLUMNS = [
    "Name",
    "IP Address",
    "Port",
    "State",
    "Connections",
    "Rate",
    "SSL Offload",
    "Passive",
    "Certificate",
    "Action",
];

/** The list; `update` takes the frontend's status. */
export function serverTable(frontend) {
    const head = element(
        "thead",
        {},
        element(
            "tr",
            {},
            COLUMNS.map((column) =>
                element(
                    "th",
                    {
                        scope: "col",
                        class: ["Connections", "Rate", "Port"].includes(column) ? "number" : "",
                    },
                    column,
                ),
            ),
        ),
    );
    const caption = element("caption", { class: "unseen" }, `Servers of ${frontend}`);
    const table = element("table", { class: "servers" }, caption, head);
    const none = element(
        "p",
        { class: "muted empty", hidden: true },
        "No servers yet: clients are not served until there is one.",
    );
    // Each server is a body of its own: its row, and below it what is edited.
    const updateRows = keyedList(table, (server) => serverRow(frontend, server));
    const fixed = table.children.length;
    return {
        element: element("div", { class: "table-box" }, table, none),
        update(status) {
            updateRows(status.servers.map((server) => [server.server.name, server]));
            table.hidden = table.children.length === fixed;
            none.hidden = !table.hidden;
        },
    };
}
