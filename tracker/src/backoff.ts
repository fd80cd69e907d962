/**
 * How long to wait after a failure: twice as long each time, up to a bound, and by chance a bit shorter, so that many
 * browsers that lost one server do not come back in the same moment.
 */

import { RETRY_MS_MAX, RETRY_MS_MIN } from "./limits.js";

/** Pauses between tries. */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** How many tries failed since the last one that did not. */
  get failures(): number {
    return this.#failures;
  }

  /** The pause after one more failure, in ms; `after` is what the server asked for at least. */
  failed(after: number | undefined): number {
    const longest = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    const share = this.#random();
    // What the server asked for is kept, and made longer by chance, for the same reason.
    return after === undefined ? longest * (0.5 + share / 2) : after + share * RETRY_MS_MIN;
  }

  /** It works again. */
  succeeded(): void {
    this.#failures = 0;
  }
}
