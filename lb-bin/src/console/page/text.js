// How numbers, times and settings are written for people.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

/** `12,345`. */
export function count(number) {
    return whole.format(number);
}

/** `4.2` below ten, `42` above. */
function short(number) {
    return number < 10 ? tenth.format(number) : whole.format(number);
}

/** `4.2/s`. */
export function perSecond(number) {
    return `${short(number)}/s`;
}

/** `3.1 MB`. */
export function bytes(number) {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let unit = 0;
    while (number >= 1000 && unit < units.length - 1) {
        number /= 1000;
        unit += 1;
    }
    return `${unit === 0 ? whole.format(number) : short(number)} ${units[unit]}`;
}

/** `3.1 MB/s`. */
export function bytesPerSecond(number) {
    return `${bytes(number)}/s`;
}

/** Microseconds: `4.2 ms`. */
export function micros(number) {
    if (number < 1000) return `${whole.format(number)} µs`;
    if (number < 1_000_000) return `${short(number / 1000)} ms`;
    return `${short(number / 1_000_000)} s`;
}

/** Seconds: `2 d 3 h`. */
export function duration(seconds) {
    const parts = [
        ["d", 86_400],
        ["h", 3600],
        ["min", 60],
        ["s", 1],
    ];
    const first = parts.findIndex(([, size]) => seconds >= size);
    if (first === -1) return "0 s";
    const written = [];
    for (const [unit, size] of parts.slice(first, first + 2)) {
        if (seconds >= size) written.push(`${Math.floor(seconds / size)} ${unit}`);
        seconds %= size;
    }
    return written.join(" ");
}

/** Seconds since 1970 as a date and time of here. */
export function time(seconds) {
    return moment.format(new Date(seconds * 1000));
}

/** Seconds since 1970 as a date of here. */
export function date(seconds) {
    return day.format(new Date(seconds * 1000));
}

/** `1 server`, `2 servers`. */
export function plural(number, word) {
    return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** An address and port: `10.0.0.1:80`, `[::1]:80`. */
export function address(ip, port) {
    return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** A setting of the configuration in one line: `wait(5s)`, `kind=tcp interval=2s`. */
export function setting(value) {
    if (value === undefined || value === null) return "none";
    if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(setting).join(", ");
    if (typeof value !== "object") return String(value);
    return Object.entries(value)
        .map(([key, part]) => `${key}(${setting(part)})`)
        .join(" ");
}
