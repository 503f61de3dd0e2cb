// Status: the whole balancer, its shards, and its revisions.

import { element, keyedList, replace, setText } from "./dom.js";
import { plots } from "./plots.js";
import { revisions } from "./revisions.js";
import * as text from "./text.js";

const FACTS = [
    ["Revision", (status) => status.revision],
    ["Running for", (status) => text.duration(status.uptime_seconds)],
    ["Connections", (status) => `${text.count(status.connections)} of ${text.count(status.max_connections)}`],
    [
        "Accepted",
        (status) =>
            `${text.perSecond(status.traffic.accepted_per_second)}, ${text.count(status.traffic.accepted)} in all`,
    ],
    ["To clients", ({ traffic }) => flow(traffic.bytes_to_client_per_second, traffic.bytes_to_client)],
    ["To servers", ({ traffic }) => flow(traffic.bytes_to_server_per_second, traffic.bytes_to_server)],
    ["Not served", (status) => text.plural(status.traffic.unserved, "connection")],
    ["On replaced addresses", (status) => text.plural(status.connections_on_replaced, "connection")],
    [
        "Changes",
        (status) => `${text.count(status.changes.applied)} applied, ${text.count(status.changes.refused)} refused`,
    ],
];
const COLUMNS = [
    ["Shard", (shard, number) => number],
    ["Core", (shard) => shard.core],
    ["Revision", (shard) => shard.revision],
    ["Busy", (shard) => shard.busy],
    ["Connections", (shard) => text.count(shard.connections)],
    ["Accepted", (shard) => text.count(shard.accepted)],
    ["Buffers", (shard) => text.bytes(shard.buffer_bytes)],
    ["Pipes", (shard) => text.count(shard.pipes)],
    ["Pooled", (shard) => text.count(shard.pooled)],
];

/** The view; `update` takes the status. */
export function statusView() {
    const facts = FACTS.map(([label, read]) => ({ label, read, value: element("dd") }));
    const pictures = plots("");
    const body = element("tbody");
    const head = element(
        "thead",
        {},
        element(
            "tr",
            {},
            COLUMNS.map(([label]) => element("th", { scope: "col", class: "number" }, label)),
        ),
    );
    const table = element("table", { class: "shards" }, element("caption", { class: "unseen" }, "Shards"), head, body);
    const updateShards = keyedList(body, shardRow);
    const history = revisions();
    return {
        title: "Status",
        element: element(
            "div",
            { class: "view" },
            element("div", { class: "view-head" }, element("h1", {}, "Status")),
            element(
                "section",
                { class: "card", "aria-label": "The balancer" },
                element(
                    "dl",
                    { class: "facts" },
                    facts.map(({ label, value }) => element("div", {}, element("dt", {}, label), value)),
                ),
                pictures.element,
            ),
            element(
                "section",
                { class: "card", "aria-labelledby": "shards" },
                element("header", { class: "card-head" }, element("h2", { id: "shards" }, "Shards")),
                element("div", { class: "table-box" }, table),
            ),
            history.element,
        ),
        update(status) {
            for (const { read, value } of facts) setText(value, read(status));
            pictures.update();
            updateShards(status.shards.map((shard, number) => [number, { shard, number }]));
            history.update(status);
        },
    };
}

function flow(perSecond, total) {
    return `${text.bytesPerSecond(perSecond)}, ${text.bytes(total)} in all`;
}

function shardRow() {
    const cells = COLUMNS.map(([label]) => element("td", { "data-label": label, class: "number" }));
    const share = element("span", { class: "bar-fill" });
    const percent = element("span");
    replace(
        cells[3],
        element("div", { class: "busy" }, element("span", { class: "bar", "aria-hidden": "true" }, share), percent),
    );
    return {
        element: element("tr", {}, cells),
        update({ shard, number }) {
            COLUMNS.forEach(([label, read], index) => label === "Busy" || setText(cells[index], read(shard, number)));
            share.style.width = `${Math.round(shard.busy * 100)}%`;
            setText(percent, `${Math.round(shard.busy * 100)} %`);
        },
    };
}
