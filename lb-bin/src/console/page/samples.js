// The last minutes of what is plotted, of the whole balancer and of each frontend, as the balancer remembers them: also
// from before the page was opened, and from while nobody looked.

import { call } from "./api.js";

/** So many seconds are shown. */
export const SPAN = 600;
let series = new Map();

/**
 * The samples of a frontend by its name, or of the whole with `""`: `{ at, connections, toServer, toClient, p50, p99
 * }`.
 */
export function samples(name) {
    return series.get(name) ?? [];
}

/** Asks for those that are new. */
export async function refreshSamples() {
    const last = samples("").at(-1)?.at ?? 0;
    const { whole, frontends } = await call("GET", "samples", undefined, { after: last });
    // The balancer's clock was set back: it begins anew.
    if (whole[0]?.at <= last) series = new Map();
    const fresh = [["", whole], ...Object.entries(frontends)];
    series = new Map(fresh.map(([name, more]) => [name, joined(samples(name), more.map(sample))]));
}

function joined(old, more) {
    const all = [...old, ...more];
    return all.filter(({ at }) => at > all.at(-1).at - SPAN);
}

function sample({ at, connections, bytes_to_server_per_second, bytes_to_client_per_second, latency }) {
    return {
        at,
        connections,
        toServer: bytes_to_server_per_second,
        toClient: bytes_to_client_per_second,
        p50: latency?.p50 ?? null,
        p99: latency?.p99 ?? null,
    };
}
