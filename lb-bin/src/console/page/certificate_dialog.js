// The dialog that adds a certificate, or puts another one in its place: PEM, pasted or from files.

import { addCertificate, replaceCertificate, save } from "./changes.js";
import { openDialog } from "./dialog.js";
import { element } from "./dom.js";
import { form, pemField, selectField, textField } from "./field.js";

const KINDS = [
    ["pair", "Certificate with its key"],
    ["bundle", "Bundle of CAs to trust"],
];

/** Opens it, to replace `old` or to add one. */
export function openCertificateDialog(old) {
    const name = textField("name", "Name");
    const kind = selectField("kind", "Kind", KINDS, { value: old?.kind });
    const chain = pemField("chain", "Certificate", {
        hint: "The certificate first, then those of the CAs between it and the root.",
    });
    const key = pemField("key", "Private key", { hint: "It is sent to the balancer and never shown again." });
    const bundle = pemField("bundle", "CA certificates", { hint: "One or more, in any order." });
    const showKind = () => {
        const isPair = kind.read() === "pair";
        chain.element.hidden = key.element.hidden = !isPair;
        bundle.element.hidden = isPair;
    };
    kind.input.addEventListener("change", showKind);
    showKind();
    const content = [
        old ? null : element("div", { class: "grid" }, name.element, kind.element),
        chain.element,
        key.element,
        bundle.element,
    ].filter((part) => part !== null);
    const act = async () => {
        const parts = kind.read() === "pair" ? { chain: chain.read(), key: key.read() } : { bundle: bundle.read() };
        await save(old ? replaceCertificate(old.name, parts) : addCertificate(name.read(), parts));
        dialog.close();
    };
    const fields = old ? [chain, key, bundle] : [name, chain, key, bundle];
    const body = form(fields, content, old ? "Replace" : "Add Certificate", act, () => dialog.close());
    body.classList.add("dialog-body");
    const onclose = () => [chain, key, bundle].forEach((field) => field.set(""));
    const dialog = openDialog(old ? `Replace ${old.name}` : "Add Certificate", body, { className: "wide", onclose });
    (old ? (old.kind === "pair" ? chain : bundle) : name).input.focus();
}
