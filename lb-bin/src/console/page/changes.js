// What can be changed, and how it is saved: at once, or collected and then saved with others as one revision. Each
// change is known in both ways of asking for it: as a call of its own, and as an element of a transaction.

import { call } from "./api.js";
import { refresh } from "./live.js";
import { confirmSaved } from "./toast.js";

const encode = encodeURIComponent;
let collected = [];
let isCollecting = false;
const listeners = new Set();

export function addServer(frontend, server) {
    return change(`Add server ${server.name} to ${frontend}`, { frontend }, "POST", servers(frontend), server, {
        AddServer: { frontend, server },
    });
}

export function updateServer(frontend, name, update) {
    return change(
        `Update server ${name} of ${frontend}`,
        { frontend, server: name },
        "PATCH",
        server(frontend, name),
        update,
        { UpdateServer: { frontend, name, ...update } },
    );
}

export function removeServer(frontend, name) {
    return change(
        `Delete server ${name} of ${frontend}`,
        { frontend, server: name },
        "DELETE",
        server(frontend, name),
        undefined,
        { RemoveServer: { frontend, name } },
    );
}

export const drainServer = modeOfServer("Drain", "drain");
export const disableServer = modeOfServer("Disable", "disable");
export const enableServer = modeOfServer("Enable", "enable");

function modeOfServer(word, path) {
    return (frontend, name) =>
        change(
            `${word} server ${name} of ${frontend}`,
            { frontend, server: name },
            "POST",
            `${server(frontend, name)}/${path}`,
            {},
            { [`${word}Server`]: { frontend, name } },
        );
}

export function addFrontend(frontend) {
    return change(`Add frontend ${frontend.name}`, { frontend: frontend.name }, "POST", "frontends", frontend, {
        AddFrontend: { frontend },
    });
}

export function updateFrontend(name, update) {
    return change(`Update frontend ${name}`, { frontend: name }, "PATCH", `frontends/${encode(name)}`, update, {
        UpdateFrontend: { name, ...update },
    });
}

export function removeFrontend(name) {
    return change(`Delete frontend ${name}`, { frontend: name }, "DELETE", `frontends/${encode(name)}`, undefined, {
        RemoveFrontend: { name },
    });
}

export function addCertificate(name, content) {
    return change(
        `Add certificate ${name}`,
        { certificate: name },
        "POST",
        "certificates",
        { name, ...content },
        { AddCertificate: { name, ...content } },
    );
}

export function replaceCertificate(name, content) {
    return change(
        `Replace certificate ${name}`,
        { certificate: name },
        "PUT",
        `certificates/${encode(name)}`,
        content,
        { UpdateCertificate: { name, ...content } },
    );
}

export function removeCertificate(name) {
    return change(
        `Delete certificate ${name}`,
        { certificate: name },
        "DELETE",
        `certificates/${encode(name)}`,
        undefined,
        { RemoveCertificate: { name } },
    );
}

function change(title, of, method, path, body, request) {
    return { title, of, method, path, body, request };
}

function servers(frontend) {
    return `frontends/${encode(frontend)}/servers`;
}

function server(frontend, name) {
    return `${servers(frontend)}/${encode(name)}`;
}

/** Saves a change, or collects it. What is refused is thrown. */
export async function save(change, ifRevision) {
    if (isCollecting) {
        await proposed([...collected, change]);
        setCollected([...collected, change]);
        return;
    }
    confirmSaved(await call(change.method, change.path, change.body, { if_revision: ifRevision }));
    await refresh();
}

/** What changes would do together: `{ revision, changes, warnings }`. */
export function proposed(changes) {
    return call("POST", "transaction", { changes: changes.map((one) => one.request) }, { dry_run: true });
}

/** Saves what is collected as one revision, provided that the revision is still this one. */
export async function saveCollected(ifRevision) {
    const changes = collected.map((one) => one.request);
    confirmSaved(await call("POST", "transaction", { changes }, { if_revision: ifRevision }));
    setCollected([]);
    await refresh();
}

/** The changes that are collected. */
export function collectedChanges() {
    return collected;
}

/** Takes changes out of the collection, or all. */
export function setCollected(changes) {
    collected = changes;
    listeners.forEach((listener) => listener());
}

/** Whether changes are collected from now on. */
export function setCollecting(wanted) {
    isCollecting = wanted;
    listeners.forEach((listener) => listener());
}

/** Whether they are. */
export function collects() {
    return isCollecting;
}

/** Calls `listener()` when something is collected or saved. */
export function onCollected(listener) {
    listeners.add(listener);
}

/** Whether a collected change is about this server (or, without a server, this frontend itself). */
export function isCollected(frontend, server) {
    return collected.some(({ of }) => of.frontend === frontend && of.server === server);
}

addEventListener("beforeunload", (event) => {
    if (collected.length > 0) event.preventDefault();
});
