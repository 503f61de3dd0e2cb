// Labelled inputs that can say what is wrong with them, and forms of them.

import { button, element } from "./dom.js";
import { sentence } from "./toast.js";

let count = 0;

/** A field for text. `read` makes of the text what is sent (see below), `write` the text of what is set. */
export function textField(name, label, { value, read = (text) => text.trim(), write = String, ...options } = {}) {
    const input = element("input", {
        type: options.type ?? "text",
        autocomplete: "off",
        autocapitalize: "none",
        spellcheck: "false",
        inputmode: options.inputmode,
        placeholder: options.placeholder,
    });
    const set = (value) => (input.value = value === undefined || value === null ? "" : write(value));
    set(value);
    return field(name, label, input, options, () => read(input.value), set);
}

/** A field for a whole number. What is not one is not sent. */
export function numberField(name, label, { none, ...options } = {}) {
    const read = (text) => {
        if (text.trim() === "" && none !== undefined) return none;
        if (!/^\d{1,10}$/.test(text.trim())) throw new WrongField(name, `${options.what ?? label} is a whole number`);
        return Number(text.trim());
    };
    return textField(name, label, { read, inputmode: "numeric", ...options });
}

/** A switch. */
export function switchField(name, label, { value, ...options } = {}) {
    const input = element("input", { type: "checkbox", role: "switch" });
    const set = (value) => (input.checked = Boolean(value));
    set(value);
    return field(name, label, input, { ...options, isSwitch: true }, () => input.checked, set);
}

/** A list to choose one from: pairs of a value and what it is called. */
export function selectField(name, label, choices, { value, ...options } = {}) {
    const input = element(
        "select",
        {},
        choices.map(([value, text]) => element("option", { value }, text)),
    );
    const set = (value) => {
        const wanted = value ?? choices[0]?.[0] ?? "";
        if (![...input.options].some((option) => option.value === wanted))
            input.append(element("option", { value: wanted }, wanted));
        input.value = wanted;
    };
    set(value);
    return field(name, label, input, options, () => input.value, set);
}

/** A field for a text in PEM, pasted or from a file. */
export function pemField(name, label, options = {}) {
    const input = element("textarea", {
        rows: 5,
        spellcheck: "false",
        autocomplete: "off",
        autocapitalize: "none",
        placeholder: "-----BEGIN …",
    });
    const file = element("input", {
        type: "file",
        accept: ".pem,.crt,.cer,.key,text/plain",
        "aria-label": `${label} from a file`,
        onchange: async () => {
            if (file.files.length > 0) input.value = await file.files[0].text();
        },
    });
    return field(
        name,
        label,
        input,
        { ...options, after: file },
        () => input.value,
        (value) => (input.value = value ?? ""),
    );
}

function field(name, label, input, { hint, isCompact, isSwitch, after }, read, set) {
    count += 1;
    const id = `field-${count}`;
    const error = element("span", { class: "field-error", id: `${id}-error`, role: "alert" });
    input.id = id;
    input.name = name;
    input.setAttribute("aria-describedby", hint ? `${id}-hint ${id}-error` : `${id}-error`);
    const labelled = element("label", { for: id, class: isCompact ? "unseen" : "" }, label);
    const hinted = hint && element("span", { class: "hint", id: `${id}-hint` }, hint);
    return {
        name,
        input,
        read,
        set,
        element: element(
            "div",
            { class: `field${isSwitch ? " field-switch" : ""}${isCompact ? " field-compact" : ""}` },
            isSwitch ? [input, labelled] : [labelled, input],
            after,
            hinted,
            error,
        ),
        setError(text) {
            error.textContent = text;
            if (text) input.setAttribute("aria-invalid", "true");
            else input.removeAttribute("aria-invalid");
        },
    };
}

/** What is wrong with a field, found before anything is sent. */
export class WrongField extends Error {
    constructor(field, reason) {
        super(reason);
        this.field = field;
    }
}

/** Shows an error beside the field that it is about, or in `problem` if it is about none of them. */
export function showError(error, fields, problem) {
    fields.forEach((field) => field.setError(""));
    problem.textContent = "";
    const wrong = error && fieldFor(error.field, fields);
    if (wrong) {
        // Beside the field its name is said already.
        const prefix = `${error.field}: `;
        wrong.setError(sentence(error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message));
        for (let part = wrong.element.closest("details"); part; part = part.parentElement.closest("details"))
            part.open = true;
        wrong.input.focus();
    } else if (error) {
        problem.textContent = sentence(error.message);
    }
}

/** The field of this name; a refusal may name it with the path that leads to it, or name only what it is a part of. */
function fieldFor(name, fields) {
    if (!name) return undefined;
    const last = (path) => path.split(".").at(-1);
    const called = (field) => [field.name, ...(field.aliases ?? [])];
    return (
        fields.find((field) => called(field).includes(name)) ??
        fields.find((field) => called(field).some((own) => last(own) === last(name))) ??
        fields.find((field) => called(field).some((own) => own.split(".")[0] === last(name)))
    );
}

/**
 * A form: `content` holds the fields' elements, `save` is called when it is submitted and may throw what is then shown.
 */
export function form(fields, content, word, save, cancel) {
    const problem = element("p", { class: "problem", role: "alert" });
    const submit = element("button", { type: "submit", class: "primary" }, word);
    const buttons = element("div", { class: "buttons" }, submit, cancel && button("Cancel", cancel));
    return element(
        "form",
        {
            novalidate: true,
            onsubmit: async (event) => {
                event.preventDefault();
                if (submit.disabled) return;
                submit.disabled = true;
                showError(null, fields, problem);
                try {
                    await save();
                } catch (error) {
                    submit.disabled = false;
                    showError(error, fields, problem);
                }
                submit.disabled = false;
            },
        },
        content,
        problem,
        buttons,
    );
}
