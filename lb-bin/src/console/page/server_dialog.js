// The dialog that adds a server to a frontend.

import { addServer, save } from "./changes.js";
import { openDialog } from "./dialog.js";
import { element } from "./dom.js";
import { form } from "./field.js";
import { status } from "./live.js";
import { foldedFields, listOf, serverFields, serverFrom } from "./server_fields.js";

/** Opens it. */
export function openServerDialog(frontend) {
    const fields = serverFields(status().certificates ?? []);
    const { name, ip, port, sslOffload, passive, certificate } = fields;
    const content = [
        name.element,
        element("div", { class: "grid" }, ip.element, port.element, sslOffload.element, passive.element),
        certificate.element,
        ...foldedFields(fields),
    ];
    const add = async () => {
        await save(addServer(frontend, serverFrom(fields)));
        dialog.close();
    };
    const body = form(listOf(fields), content, "ADD SERVER", add, () => dialog.close());
    body.classList.add("dialog-body");
    const dialog = openDialog(`Add Server to ${frontend}`, body);
    name.input.focus();
}
