// Times as people read them, in the zone of the browser, also where the clock is put forward or back.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "your computer";

const safely = (format) => (ms) => {
  try { return format.format(ms); } catch { return "an unknown time"; } // a daemon may send any number
};
export const atSecond = safely(clock);
export const atMinute = safely(minute);
export const onDay = safely(day);
export const inFull = safely(full);

// "21:04:10", with the day before it unless it is today.
export function at(ms) {
  return midnight(ms) === midnight(Date.now()) ? atSecond(ms) : `${onDay(ms)}, ${atSecond(ms)}`;
}

// "21:04:10 to 21:05:00", with the day once.
export function between(from, to) {
  return `${at(from)} to ${onDay(from) === onDay(to) ? atSecond(to) : at(to)}`;
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 86400 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

// The beginning of the day in which a time lies, in the browser's zone.
export function midnight(ms) {
  const date = new Date(ms);
  date.setHours(0, 0, 0, 0);
  return date.getTime();
}
