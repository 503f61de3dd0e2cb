// The way to the balancer: its HTTP API. The session is in a cookie that scripts can't read; what proves that a change
// comes from this page is kept here, in memory.

let csrf = "";
let relogin = async () => {};

/** What the balancer has refused, and why. */
class Refused extends Error {
    constructor(status, error = {}) {
        super(error.reason ?? `the balancer answered with status ${status}`);
        this.status = status;
        this.field = error.field;
    }
}

/** The balancer did not answer. */
class Unreachable extends Error {
    constructor() {
        super("The balancer does not answer.");
    }
}

/** Says what to do when the session has ended: it is called with the way to log in, and its end is waited for. */
export function whenExpired(handler) {
    relogin = handler;
}

/** What is known of the session: `{ csrf, version, login }`, or only `{ login }` if there is none. */
export async function session() {
    const { status, answer } = await send("GET", "session");
    if (status !== 200 && status !== 401) throw new Refused(status, answer.error);
    csrf = answer.csrf ?? "";
    return answer;
}

/** Begins a session, with `{ token }` or `{ password }`. */
export async function logIn(secret) {
    const { status, answer } = await send("POST", "session", secret);
    if (status !== 200) throw new Refused(status, answer.error);
    csrf = answer.csrf;
}

/** Ends the session. */
export async function logOut() {
    await send("DELETE", "session");
    csrf = "";
}

/** One request with what is answered. If the session has ended it is made again after the next login. */
export async function call(method, path, body, query = {}) {
    let { status, answer } = await send(method, path, body, query);
    if (status === 401) {
        await relogin();
        ({ status, answer } = await send(method, path, body, query));
    } else if (status === 403 && method !== "GET" && (await session()).csrf) {
        // A login in another tab has replaced the session.
        ({ status, answer } = await send(method, path, body, query));
    }
    if (status >= 300) throw new Refused(status, answer.error);
    return answer;
}

async function send(method, path, body, query = {}) {
    const parameters = new URLSearchParams(
        Object.entries(query).filter(([, value]) => value !== undefined && value !== false),
    );
    const headers = { Accept: "application/json" };
    if (method !== "GET") headers["X-CSRF-Token"] = csrf;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const url = `/api/v1/${path}${parameters.size > 0 ? `?${parameters}` : ""}`;
    let response;
    let text;
    try {
        response = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
        text = await response.text();
    } catch {
        throw new Unreachable();
    }
    return { status: response.status, answer: parsed(text) };
}

function parsed(text) {
    try {
        return text === "" ? {} : JSON.parse(text);
    } catch {
        return {};
    }
}
