// The console: the menu with its views, and what connects them to what is live.

import * as api from "./api.js";
import { certificatesView } from "./certificates.js";
import { onCollected } from "./changes.js";
import { collectedBar } from "./difference.js";
import { button, element, pill, replace, setAttribute, setText } from "./dom.js";
import { tcpConfig } from "./frontends.js";
import * as live from "./live.js";
import { loginAgain, loginView } from "./login.js";
import { statusView } from "./status.js";
import { complain, toasts } from "./toast.js";
import { plural } from "./text.js";

const VIEWS = { tcp: tcpConfig, certificates: certificatesView, status: statusView };
const TITLES = { tcp: "TCP Config", certificates: "Certificates", status: "Status" };

async function begin() {
    try {
        const { csrf, version, login } = await api.session();
        if (csrf) open(version);
        else askToLogIn(login);
    } catch (error) {
        replace(
            document.body,
            element(
                "main",
                { class: "login" },
                element(
                    "div",
                    { class: "login-box" },
                    element("h1", { class: "brand" }, "lb console"),
                    element("p", { class: "problem", role: "alert" }, error.message),
                    button("Try again", begin, { class: "primary" }),
                ),
            ),
        );
    }
}

function askToLogIn(login) {
    const view = loginView(login, begin);
    document.title = "Log in – lb console";
    replace(document.body, view.element);
    view.focus();
}

function open(version) {
    api.whenExpired(loginAgain);
    const views = {};
    const content = element("main", { id: "content", tabindex: "-1" });
    const links = Object.entries(TITLES).map(([name, title]) => element("a", { href: `#${name}` }, title));
    const connection = pill();
    const revision = element("span", { class: "muted" });
    const lost = element("p", { class: "lost", role: "alert", hidden: true });
    const menu = element(
        "nav",
        { class: "menu", "aria-label": "Menu" },
        element(
            "div",
            { class: "brand" },
            element("img", { src: "/icon.svg", alt: "" }),
            element("span", {}, "lb console"),
        ),
        element("div", { class: "links" }, links),
        element(
            "div",
            { class: "menu-foot" },
            connection.element,
            revision,
            element("span", { class: "muted" }, `lb ${version}`),
            button("Log out", logOut, { class: "small" }),
        ),
    );
    replace(
        document.body,
        element("a", { class: "skip", href: "#content", onclick: skip }, "Skip to the content"),
        menu,
        lost,
        content,
        collectedBar(),
        toasts(),
    );

    function skip(event) {
        event.preventDefault();
        content.focus();
    }

    function show() {
        const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "tcp";
        views[name] ??= VIEWS[name]();
        const view = views[name];
        links.forEach((link) =>
            link.hash === `#${name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current"),
        );
        document.title = `${view.title} – lb console`;
        if (content.firstElementChild !== view.element) replace(content, view.element);
        if (live.status()) view.update(live.status());
    }

    live.onStatus((status, error) => {
        lost.hidden = !error;
        setText(lost, error ? `${error.message} What is shown is from before; it is tried again every second.` : "");
        connection.set(error ? "bad" : "good", error ? "No answer" : "Live");
        setAttribute(content, "class", error ? "stale" : "");
        if (!status) return;
        setText(revision, `Revision ${status.revision}, ${plural(status.shards.length, "shard")}`);
        show();
    });
    onCollected(() => live.status() && show());
    addEventListener("hashchange", show);
    show();
    live.start();
}

async function logOut() {
    live.stop();
    try {
        await api.logOut();
        location.reload();
    } catch (error) {
        complain(error);
        live.start();
    }
}

begin();
