// What the balancer says of itself, asked for once a second while somebody looks. A change that was made elsewhere
// shows up by this.

import { call } from "./api.js";
import { refreshSamples } from "./samples.js";

const PERIOD = 1000;
const listeners = new Set();
let latest = null;
let timer = 0;
let isRunning = false;
let asking = null;

/** The last status, or null before the first. */
export function status() {
    return latest;
}

/** Calls `listener(status, error)` with every status, and with every failure to get one. */
export function onStatus(listener) {
    listeners.add(listener);
}

/** Begins to ask. */
export function start() {
    isRunning = true;
    refresh();
}

/** Stops asking. */
export function stop() {
    isRunning = false;
    clearTimeout(timer);
}

/** Asks now, and gives the status once it is shown. */
export async function refresh() {
    clearTimeout(timer);
    // One that is on its way may be from before the change that this one is to show.
    if (asking) await asking.catch(() => {});
    asking = ask();
    try {
        return await asking;
    } finally {
        asking = null;
        clearTimeout(timer);
        if (isRunning && !document.hidden) timer = setTimeout(refresh, PERIOD);
    }
}

async function ask() {
    let error = null;
    try {
        latest = await call("GET", "status");
        await refreshSamples();
    } catch (failure) {
        error = failure;
    }
    for (const listener of listeners) listener(latest, error);
    return latest;
}

document.addEventListener("visibilitychange", () => {
    if (isRunning && !document.hidden) refresh();
});
