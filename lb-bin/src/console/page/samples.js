// The last minutes of what is plotted, of the whole balancer and of each frontend.

import { onStatus } from "./live.js";

/** So many seconds are remembered. */
export const SPAN = 300;
const series = new Map();

/**
 * The samples of a frontend by its name, or of the whole with `""`: `{ at, connections, toServer, toClient, p50, p99
 * }`.
 */
export function samples(name) {
    return series.get(name) ?? [];
}

/**
 * The latency of a frontend: of requests where they are read, else to the first byte of its slowest server, else to
 * connect.
 */
export function latency(frontend) {
    if (frontend.request_durations?.count > 0) return frontend.request_durations;
    return (
        slowest(frontend.servers.map((server) => server.first_byte)) ??
        slowest(frontend.servers.map((server) => server.connect))
    );
}

function slowest(quantiles) {
    return quantiles
        .filter((one) => one?.count > 0)
        .reduce((worst, one) => (worst && worst.p99 > one.p99 ? worst : one), null);
}

function take(status) {
    if (!status) return;
    const at = Date.now() / 1000;
    const names = new Set([""]);
    add("", at, status.connections, status.traffic, slowest(status.frontends.map(latency)));
    for (const frontend of status.frontends) {
        names.add(frontend.frontend.name);
        add(frontend.frontend.name, at, frontend.connections, frontend.traffic, latency(frontend));
    }
    for (const name of series.keys()) if (!names.has(name)) series.delete(name);
}

function add(name, at, connections, traffic, quantiles) {
    const samples = series.get(name) ?? [];
    samples.push({
        at,
        connections,
        toServer: traffic.bytes_to_server_per_second,
        toClient: traffic.bytes_to_client_per_second,
        p50: quantiles?.p50 ?? null,
        p99: quantiles?.p99 ?? null,
    });
    while (samples[0].at < at - SPAN) samples.shift();
    series.set(name, samples);
}

onStatus((status, error) => error || take(status));
