// Making and updating elements. Text only ever goes in as text: names and reasons come from others.

/**
 * An element with properties (`class`, `on…` handlers, attributes) and children (elements or text; empty ones are left
 * out).
 */
export function element(tag, properties = {}, ...children) {
    return fill(document.createElement(tag), properties, children);
}

/** The same of a picture. */
export function svg(tag, properties = {}, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(node, properties, children) {
    for (const [name, value] of Object.entries(properties)) {
        if (value === undefined || value === null || value === false) continue;
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
    return node;
}

/** A button that never submits. */
export function button(text, onclick, properties = {}) {
    return element("button", { type: "button", onclick, ...properties }, text);
}

/** A small label with a dot of its colour: `good`, `warn`, `bad` or `calm`. */
export function pill() {
    const text = element("span");
    const node = element(
        "span",
        { class: "pill calm" },
        element("span", { class: "dot", "aria-hidden": "true" }),
        text,
    );
    return {
        element: node,
        set(kind, word, title = "") {
            setAttribute(node, "class", `pill ${kind}`);
            setAttribute(node, "title", title);
            setText(text, word);
        },
    };
}

/** Sets a text only if it is another one, so that a selection in it stays. */
export function setText(node, text) {
    if (node.textContent !== String(text)) node.textContent = text;
}

/** Sets an attribute only if it is another one. */
export function setAttribute(node, name, value) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Puts other children into an element. */
export function replace(node, ...children) {
    node.replaceChildren(
        ...children.flat().filter((child) => child !== undefined && child !== null && child !== false),
    );
}

/**
 * A list whose parts stay the same elements as long as their keys are there: what has the focus keeps it.
 * `create(item)` gives `{ element, update(item), isBusy?(), gone?() }`; a busy part (one that is edited) stays when its
 * item has gone, and is told. What is in the container already stays before the list.
 */
export function keyedList(container, create) {
    const parts = new Map();
    const first = container.lastElementChild;
    return function update(items) {
        const keys = new Set(items.map(([key]) => key));
        for (const [key, part] of parts) {
            if (keys.has(key)) continue;
            if (part.isBusy?.()) {
                part.gone?.();
            } else {
                part.element.remove();
                parts.delete(key);
            }
        }
        let before = first ? first.nextElementSibling : container.firstElementChild;
        for (const [key, item] of items) {
            let part = parts.get(key);
            if (!part) {
                part = create(item);
                parts.set(key, part);
            }
            part.update(item);
            if (part.element === before) before = before.nextElementSibling;
            else container.insertBefore(part.element, before);
        }
    };
}
