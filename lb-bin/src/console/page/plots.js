// Small plots of the last minutes: one or two lines over time, drawn as SVG, with their last value in words.

import { element, setAttribute, setText, svg } from "./dom.js";
import { SPAN, samples } from "./samples.js";
import * as text from "./text.js";

const WIDTH = 240;
const HEIGHT = 48;

/** The plots of connections, throughput and latency of a frontend, or of the whole with `""`. */
export function plots(name) {
    const all = [
        plot("Connections", [["connections", ""]], text.count),
        plot(
            "Throughput",
            [
                ["toClient", "to clients"],
                ["toServer", "to servers"],
            ],
            text.bytesPerSecond,
        ),
        plot(
            "Latency",
            [
                ["p50", "p50"],
                ["p99", "p99"],
            ],
            text.micros,
        ),
    ];
    return {
        element: element(
            "div",
            { class: "plots" },
            all.map((plot) => plot.element),
        ),
        update: () => all.forEach((plot) => plot.update(samples(name))),
    };
}

/** One plot: `lines` are pairs of a sample's field and what it is called. */
function plot(title, lines, write) {
    const paths = lines.map((_, index) => svg("path", { class: `line line-${index + 1}` }));
    const area = svg("path", { class: "area" });
    const picture = svg(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
        svg("path", { class: "floor", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
        area,
        paths,
    );
    const values = lines.map(() => element("span", { class: "value" }));
    const legend = lines.map(([, label], index) =>
        element(
            "span",
            { class: lines.length > 1 ? `legend legend-${index + 1}` : "legend" },
            values[index],
            label && element("span", { class: "muted" }, ` ${label}`),
        ),
    );
    const peak = element("span", { class: "peak muted" });
    const head = element(
        "figcaption",
        {},
        element("span", { class: "plot-title" }, title, peak),
        element("span", { class: "legends" }, legend),
    );
    return {
        element: element("figure", { class: "plot" }, head, picture),
        update(samples) {
            const span = spanOf(samples);
            const top = Math.max(...samples.flatMap((sample) => lines.map(([field]) => sample[field] ?? 0)), 0);
            lines.forEach(([field], index) => {
                const points = placed(samples, field, top, span);
                setAttribute(paths[index], "d", lineThrough(points));
                if (index === 0) setAttribute(area, "d", areaUnder(points));
                const last = samples.at(-1)?.[field];
                setText(values[index], last === null || last === undefined ? "–" : write(last));
            });
            setText(peak, `${Math.round(span / 60)} min${top > 0 ? `, at most ${write(top)}` : ""}`);
            setAttribute(picture, "aria-label", described(title, lines, samples, top, write, span));
        },
    };
}

/** How many seconds are shown: whole minutes, as many as there are. */
function spanOf(samples) {
    const covered = samples.length > 0 ? samples.at(-1).at - samples[0].at : 0;
    return Math.min(SPAN, Math.max(60, Math.ceil(covered / 60) * 60));
}

/** Runs of points, broken where nothing was measured or asked. */
function placed(samples, field, top, span) {
    const now = samples.at(-1)?.at ?? 0;
    const runs = [[]];
    let before = null;
    for (const sample of samples) {
        const value = sample[field];
        if (value === null || (before !== null && sample.at - before > 10)) runs.push([]);
        before = sample.at;
        if (value === null) continue;
        const x = WIDTH - ((now - sample.at) / span) * WIDTH;
        const y = HEIGHT - 1 - (top > 0 ? value / top : 0) * (HEIGHT - 4);
        runs.at(-1).push([x.toFixed(1), y.toFixed(1)]);
    }
    return runs.filter((run) => run.length > 0);
}

function lineThrough(runs) {
    return runs.map((run) => `M${run.map(([x, y]) => `${x} ${y}`).join("L")}`).join("");
}

function areaUnder(runs) {
    const under = (run) =>
        `M${run[0][0]} ${HEIGHT}L${run.map(([x, y]) => `${x} ${y}`).join("L")}L${run.at(-1)[0]} ${HEIGHT}Z`;
    return runs.map(under).join("");
}

function described(title, lines, samples, top, write, span) {
    const last = samples.at(-1);
    const now = lines.map(([field, label]) =>
        `${label} ${last?.[field] == null ? "not measured" : write(last[field])}`.trim(),
    );
    return `${title} of the last ${Math.round(span / 60)} min: now ${now.join(", ")}; at most ${write(top)}`;
}
