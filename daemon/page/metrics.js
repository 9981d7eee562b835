// What the daemon counts (OpenMetrics text), and what of it happened between two readings.

const LINE = /^piston_(\w+)(?:\{(.*)\})? (\S+)$/;

/** The samples by name, each with its labels as text. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push([labels, Number(value)]);
  }
  return found;
}

/** The sum over all labels. */
export const sum = (metrics, name) =>
  (metrics.get(name) ?? []).reduce((all, [, value]) => all + value, 0);

/** How much a counter grew from one reading to the next, a second. */
export function rate(before, after, name, seconds) {
  return Math.max(0, sum(after, name) - sum(before, name)) / seconds;
}

/** The time, in microseconds, that a part of the jobs between two readings kept within. */
export function within(before, after, name, part) {
  const earlier = new Map(before.get(`${name}_bucket`) ?? []);
  const buckets = (after.get(`${name}_bucket`) ?? []).map(([labels, count]) => [
    bound(labels),
    count - (earlier.get(labels) ?? 0),
  ]);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (all <= 0) return undefined;
  const wanted = all * part;
  let [low, counted] = [0, 0];
  for (const [high, count] of buckets) {
    // Past the last bound nothing is known but that it was longer.
    if (count >= wanted)
      return (
        (Number.isFinite(high)
          ? low + ((high - low) * (wanted - counted)) / (count - counted)
          : low) * 1e6
      );
    [low, counted] = [high, count];
  }
  return undefined;
}

function bound(labels) {
  const text = /le="([^"]*)"/.exec(labels)?.[1];
  return text === "+Inf" ? Infinity : Number(text);
}
