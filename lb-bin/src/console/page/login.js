// The way in: a view of its own at first, and a dialog over what is being done when the session has ended meanwhile.

import * as api from "./api.js";
import { openDialog } from "./dialog.js";
import { element } from "./dom.js";
import { form, textField } from "./field.js";

const WORDS = {
    token: {
        label: "Token",
        hint: () => [element("code", {}, "lb console token"), " shows it on the machine where the balancer runs."],
    },
    password: {
        label: "Password",
        hint: () => ["The one in the file that ", element("code", {}, "password_file"), " names."],
    },
};

/** The first view. `done` is called after the login. */
export function loginView(login, done) {
    const fields = loginForm(login, done);
    const view = element(
        "main",
        { class: "login" },
        element(
            "div",
            { class: "login-box" },
            element("h1", { class: "brand" }, element("img", { src: "/icon.svg", alt: "" }), "lb console"),
            fields.element,
        ),
    );
    return { element: view, focus: fields.focus };
}

let again = null;

/** Asks for a login over everything else; ends when there has been one. */
export function loginAgain() {
    again ??= new Promise((resolve, reject) => {
        ask(resolve).catch(reject);
    }).finally(() => (again = null));
    return again;
}

async function ask(resolve) {
    const { login, csrf } = await api.session();
    // Somebody has logged in in another tab.
    if (csrf) return resolve();
    let isDone = false;
    const fields = loginForm(login, () => {
        isDone = true;
        dialog.close();
        resolve();
    });
    const text = element("p", {}, "Your session has ended. Log in to go on where you were.");
    const onclose = () => isDone || location.reload();
    const dialog = openDialog("Session ended", element("div", { class: "dialog-body" }, text, fields.element), {
        className: "narrow",
        onclose,
    });
    fields.focus();
}

function loginForm(login, done) {
    const { label, hint } = WORDS[login] ?? WORDS.token;
    const secret = textField(login, label, {
        type: "password",
        hint: hint(),
        read: (text) => (login === "password" ? text : text.trim()),
    });
    secret.aliases = ["token", "password"];
    const save = async () => {
        try {
            await api.logIn({ [login]: secret.read() });
        } catch (error) {
            error.field ??= login;
            throw error;
        }
        secret.set("");
        done();
    };
    return { element: form([secret], secret.element, "Log in", save), focus: () => secret.input.focus() };
}
