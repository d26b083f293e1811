/** One thing that the palette can find. */
export interface Entry { text: string; kind: string; href: string }

/**
 * The best `limit` entries that hold every word of the query, in any order and any case.
 * A word at the start of a path part counts more than one inside, and short texts come first.
 */
export function find(entries: readonly Entry[], query: string, limit: number): Entry[] {
  const words = query.toLowerCase().split(/[\s/]+/).filter(Boolean);
  if (words.length === 0) return entries.slice(0, limit);
  const scored: [number, number][] = [];
  for (let i = 0; i < entries.length; i++) {
    const score = rate((entries[i] as Entry).text.toLowerCase(), words);
    if (score > 0) scored.push([score, i]);
  }
  scored.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  return scored.slice(0, limit).map(([, i]) => entries[i] as Entry);
}

function rate(text: string, words: string[]): number {
  let score = 1000 - text.length;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at < 0) return 0;
    const before = at === 0 ? "/" : text[at - 1];
    if (before === "/" || before === " " || before === "_") score += 200;
    const after = text[at + word.length];
    if (after === undefined || after === "/" || after === " ") score += 100;
  }
  return Math.max(1, score);
}
