// The state of a server in a word, its colour, and why.

/** `{ kind, word, why }`, `kind` being `good`, `warn`, `bad` or `calm`. */
export function serverState({ server, health }) {
    const why = typeof health === "object" ? (health.down?.why ?? "") : "";
    if (server.disabled) return { kind: "calm", word: "Disabled", why: "Out of service for maintenance." };
    const checked = checkedState(health);
    if (server.drain)
        return { kind: checked.kind === "bad" ? "bad" : "warn", word: "Draining", why: drainText(server, why) };
    return checked;
}

function checkedState(health) {
    if (health === "up") return { kind: "good", word: "Up", why: "Its checks pass." };
    if (health === "starting")
        return { kind: "good", word: "Starting", why: "It has come up and gets its share little by little." };
    if (health.down) return { kind: "bad", word: "Down", why: health.down.why };
    if (health.ejected) {
        const seconds = Math.ceil(health.ejected.for_milliseconds / 1000);
        const again = seconds > 0 ? `; it is tried again in ${seconds} s` : "";
        return { kind: "bad", word: "Ejected", why: `Connections to it failed${again}.` };
    }
    return { kind: "calm", word: "Unproven", why: "It was not checked yet, or is not checked: it gets connections." };
}

function drainText(server, why) {
    const within = server.drain_within ? ` within ${server.drain_within}` : "";
    return `It gets no new connections; those that exist finish${within}.${why ? ` Its checks fail: ${why}` : ""}`;
}
