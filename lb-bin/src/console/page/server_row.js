// A server in the list: what is known of it, and what can be done with it.

import { disableServer, drainServer, enableServer, isCollected, removeServer, save } from "./changes.js";
import { ask } from "./dialog.js";
import { button, element, pill, replace, setAttribute, setText } from "./dom.js";
import { status } from "./live.js";
import { serverEditor } from "./server_editor.js";
import { serverState } from "./server_state.js";
import * as text from "./text.js";
import { complain } from "./toast.js";

/** The row of a server; `update` takes its status. */
export function serverRow(frontend, first) {
    const key = first.server.name;
    const cells = makeCells();
    const row = element(
        "tr",
        {},
        Object.values(cells).map(({ cell }) => cell),
    );
    const body = element("tbody", { "data-server": key }, row);
    const actions = {
        update: button("Update", edit, { class: "small", "aria-label": `Update ${key}` }),
        drain: button("Drain", drainOrEnable, { class: "small" }),
        disable: button("Disable", disableOrEnable, { class: "small" }),
        remove: button("Delete", remove, { class: "small danger-text", "aria-label": `Delete ${key}` }),
    };
    let now = first;
    let editor = null;
    replace(cells.action.cell, element("div", { class: "actions" }, Object.values(actions)));
    body.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && editor) editor.close();
    });

    function show() {
        const { server } = now;
        const state = serverState(now);
        cells.state.pill.set(state.kind, state.word, state.why);
        setText(cells.state.why, state.kind === "bad" || now.tls?.trouble ? (now.tls?.trouble ?? state.why) : "");
        setText(cells.state.collected, isCollected(frontend, key) ? "Change collected" : "");
        setText(cells.connections.cell, text.count(now.connections));
        setText(cells.rate.cell, text.perSecond(now.served_per_second));
        setWord(actions.drain, server.drain ? "Enable" : "Drain");
        setWord(actions.disable, server.disabled ? "Enable" : "Disable");
        // One that is disabled has nothing to drain, as it gets no connections: it is only enabled.
        actions.drain.hidden = editor !== null || Boolean(server.disabled);
        if (editor) return editor.update();
        if (!cells.name.cell.contains(cells.name.name)) replace(cells.name.cell, cells.name.name, cells.name.details);
        setText(cells.name.name, server.name);
        setText(cells.name.details, detailsOf(server));
        setText(cells.ip.cell, server.ip);
        setText(cells.port.cell, server.port);
        setText(cells.offload.cell, server.ssl_offload ? "Yes" : "No");
        setText(cells.passive.cell, server.passive ? "Yes" : "No");
        setText(cells.certificate.cell, server.server_certificate ?? "None");
    }

    function setWord(button, word) {
        setText(button, word);
        setAttribute(button, "aria-label", `${word} ${key}`);
    }

    function edit() {
        editor = serverEditor(
            frontend,
            key,
            cells,
            () => now,
            (name) => {
                editor = null;
                body.hidden = !isThere(frontend, key);
                body.classList.remove("edited");
                row.nextElementSibling?.remove();
                for (const action of Object.values(actions)) action.hidden = false;
                show();
                // The row of a new name is another one.
                const shown =
                    [...(body.parentElement?.tBodies ?? [])].find((one) => one.dataset.server === name) ?? body;
                shown.querySelector(".actions button")?.focus();
            },
        );
        body.classList.add("edited");
        for (const action of Object.values(actions)) action.hidden = true;
        body.append(editor.element);
        editor.focus();
    }

    function drainOrEnable() {
        return act(actions.drain, now.server.drain ? enableServer(frontend, key) : drainServer(frontend, key));
    }

    function disableOrEnable() {
        if (now.server.disabled) return act(actions.disable, enableServer(frontend, key));
        ask(`Disable server ${key}?`, consequence("no new connections and no checks"), "Disable", () =>
            save(disableServer(frontend, key)),
        );
    }

    function remove() {
        ask(`Delete server ${key}?`, consequence("no new connections"), "Delete", () =>
            save(removeServer(frontend, key)),
        );
    }

    async function act(button, change) {
        button.disabled = true;
        await save(change).catch(complain);
        button.disabled = false;
        button.focus();
    }

    function consequence(gets) {
        const { server, connections } = now;
        const going = connections > 0 ? ` Its ${text.plural(connections, "connection")} go on until they end.` : "";
        return element(
            "p",
            {},
            `${key} (${text.address(server.ip, server.port)}) of ${frontend} gets ${gets}.${going}`,
        );
    }

    return {
        element: body,
        update(server) {
            now = server;
            show();
        },
        isBusy: () => editor !== null,
        gone: () => editor.gone(),
    };
}

function isThere(frontend, key) {
    const found = status().frontends.find((one) => one.frontend.name === frontend);
    return found?.servers.some(({ server }) => server.name === key) ?? false;
}

function makeCells() {
    const td = (label, className = "") => ({ cell: element("td", { "data-label": label, class: className }) });
    const state = {
        pill: pill(),
        why: element("span", { class: "why" }),
        collected: element("span", { class: "collected-mark" }),
    };
    return {
        name: {
            name: element("span"),
            details: element("span", { class: "why" }),
            cell: element("th", { scope: "row", "data-label": "Name", class: "name" }),
        },
        ip: td("IP Address", "address"),
        port: td("Port", "number"),
        state: {
            ...state,
            cell: element(
                "td",
                { "data-label": "State" },
                element("div", { class: "state" }, state.pill.element, state.why, state.collected),
            ),
        },
        connections: td("Connections", "number"),
        rate: td("Rate", "number"),
        offload: td("SSL Offload"),
        passive: td("Passive"),
        certificate: td("Certificate"),
        action: td("Action", "action"),
    };
}

/** What else is set about a server, beside its columns. */
function detailsOf({ weight = 1, max_connections: limit, group, send_proxy: proxy, check }) {
    const details = [
        weight !== 1 && `weight ${weight}`,
        limit && `at most ${text.plural(limit, "connection")}`,
        group && `group ${group}`,
        proxy && `PROXY ${proxy}`,
        check && "own check",
    ];
    return details.filter((detail) => detail).join(", ");
}
