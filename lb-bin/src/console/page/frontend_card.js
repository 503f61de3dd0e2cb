// A frontend with its settings, its live numbers, the switch for cookies, and its servers.

import { isCollected, removeFrontend, save, updateFrontend } from "./changes.js";
import { ask } from "./dialog.js";
import { button, element, keyedList, pill, setText } from "./dom.js";
import { showError, switchField } from "./field.js";
import { openFrontendSettings } from "./frontend_dialog.js";
import { plots } from "./plots.js";
import { openServerDialog } from "./server_dialog.js";
import { serverTable } from "./server_table.js";
import * as text from "./text.js";

const LINES = [
    ["Protocol", ({ frontend }) => (frontend.protocol ?? "tcp").toUpperCase()],
    ["Policy", ({ frontend }) => text.setting(frontend.policy)],
    ["Check", ({ frontend }) => checkText(frontend.check)],
    ["Connections at most", ({ frontend }) => frontend.max_connections ?? "no limit"],
    ["Connect timeout", ({ frontend }) => frontend.connect_timeout],
    ["Idle timeout", ({ frontend }) => frontend.idle_timeout],
    ["Queue", ({ frontend }) => `${text.count(frontend.queue)} for ${frontend.queue_timeout}`],
    ["Without a server", ({ frontend }) => text.setting(frontend.on_unavailable)],
    ["Certificates", ({ frontend }) => text.setting(frontend.certificates ?? [])],
    ["TLS with clients", ({ tls }) => tls && tlsText(tls)],
    ["Responses", ({ http }) => http && responsesText(http)],
];

/** The card; `update` takes the frontend's status. */
function frontendCard(first) {
    const name = first.frontend.name;
    const title = `frontend-${name}`;
    const state = pill();
    const where = element("span", { class: "address" });
    const live = element("p", { class: "live" });
    const collected = element("span", { class: "collected-mark" });
    const lines = LINES.map(([label, read]) => ({ label, read, value: element("dd") }));
    const settings = element(
        "dl",
        { class: "settings" },
        lines.map(({ label, value }) => element("div", {}, element("dt", {}, label), value)),
    );
    const cookie = cookieSwitch(name);
    const pictures = plots(name);
    const table = serverTable(name);
    let now = first;

    function remove() {
        const details = element(
            "p",
            {},
            `It stops accepting at ${now.addr}, and its ${text.plural(now.servers.length, "server")} go with it. ` +
                `Its ${text.plural(now.connections, "connection")} go on until they end.`,
        );
        ask(`Delete frontend ${name}?`, details, "Delete", () => save(removeFrontend(name)));
    }

    return {
        element: element(
            "section",
            { class: "card frontend", "aria-labelledby": title, "data-frontend": name },
            element(
                "header",
                { class: "card-head" },
                element("h2", { id: title }, name),
                where,
                state.element,
                collected,
                element(
                    "div",
                    { class: "actions" },
                    button("Settings", () => openFrontendSettings(name), {
                        class: "small",
                        "aria-label": `Settings of ${name}`,
                    }),
                    button("Delete", remove, { class: "small danger-text", "aria-label": `Delete frontend ${name}` }),
                ),
            ),
            live,
            pictures.element,
            settings,
            cookie.element,
            element(
                "div",
                { class: "server-head" },
                button("Add Server", () => openServerDialog(name), {
                    class: "primary",
                    "aria-label": `Add Server to ${name}`,
                }),
            ),
            table.element,
        ),
        update(status) {
            now = status;
            state.set(...serviceState(status));
            setText(where, status.addr);
            setText(live, liveText(status));
            setText(collected, isCollected(name) ? "Change collected" : "");
            for (const { read, value } of lines) {
                const shown = read(status);
                value.parentElement.hidden = shown === undefined;
                setText(value, shown ?? "");
            }
            cookie.update(status.frontend);
            pictures.update();
            table.update(status);
        },
    };
}

/** The switch that keeps clients on their servers by a cookie. It is saved at once; a refusal is shown beside it. */
function cookieSwitch(name) {
    const field = switchField("cookie_persistence", "Cookie persistence", {
        hint: "Clients stay on their servers by a cookie.",
    });
    const problem = element("p", { class: "problem", role: "alert" });
    let isSaving = false;
    let set = false;
    field.input.addEventListener("change", async () => {
        isSaving = true;
        field.input.disabled = true;
        showError(null, [field], problem);
        let refused = null;
        await save(updateFrontend(name, { cookie_persistence: field.input.checked })).catch(
            (error) => (refused = error),
        );
        isSaving = false;
        field.input.disabled = false;
        field.set(set);
        field.input.focus();
        if (refused) showError(refused, [field], problem);
    });
    return {
        element: element("div", { class: "cookie" }, field.element, problem),
        update(frontend) {
            set = frontend.cookie_persistence ?? false;
            if (!isSaving) field.set(set);
        },
    };
}

function serviceState({ paused, service }) {
    if (paused) return ["warn", "Paused", "Accepting pauses: a limit is reached or descriptors have run out."];
    if (service === "active") return ["good", "Serving", "Active servers serve it."];
    if (service === "passive") return ["warn", "Standbys serve", "Passive servers take part."];
    return ["bad", "No server", "No server is available."];
}

function liveText({ connections, traffic, waiting }) {
    const parts = [text.plural(connections, "connection"), `${text.perSecond(traffic.accepted_per_second)} accepted`];
    if (traffic.requests_per_second > 0) parts.push(`${text.perSecond(traffic.requests_per_second)} requests`);
    parts.push(
        `${text.bytesPerSecond(traffic.bytes_to_client_per_second)} to clients`,
        `${text.bytesPerSecond(traffic.bytes_to_server_per_second)} to servers`,
    );
    if (waiting > 0) parts.push(`${text.count(waiting)} waiting`);
    return parts.join(" · ");
}

function tlsText({ handshakes, failed }) {
    const causes = Object.entries(failed).map(
        ([cause, number]) => `${text.count(number)} ${cause.replaceAll("_", " ")}`,
    );
    return `${text.plural(handshakes, "handshake")}${causes.length > 0 ? `, failed: ${causes.join(", ")}` : ""}`;
}

function responsesText({ responses, refused }) {
    const classes = [
        ["2xx", responses.successful],
        ["3xx", responses.redirection],
        ["4xx", responses.client_error],
        ["5xx", responses.server_error],
    ];
    const own = Object.values(refused).reduce((sum, number) => sum + number, 0);
    if (own > 0) classes.push(["refused", own]);
    return classes.map(([name, number]) => `${name} ${text.count(number)}`).join(" · ");
}

function checkText({ kind, interval }) {
    if (kind === "off") return "off";
    const word = typeof kind === "object" ? Object.keys(kind)[0] : kind;
    const path = kind.http ? ` ${kind.http.path}` : "";
    return `${word}${path} every ${interval}`;
}

/** The list of cards in `container`; the function it gives takes the status of all frontends. */
export function frontendCards(container) {
    const update = keyedList(container, frontendCard);
    return (frontends) => update(frontends.map((status) => [status.frontend.name, status]));
}
