/**
 * One batch to the server, and what its answer means.
 *
 * | answer | meaning |
 * |---|---|
 * | 2xx | the server has it |
 * | none, 408, 429, 5xx | later again, not before `Retry-After` |
 * | anything else | the server will never take it: it is dropped, and the log hears of it |
 */

import type { Environment } from "./environment.js";
import { ANSWER_MS_MAX, ANSWER_SHOWN_MAX, BEACON_BYTES_MAX, RETRY_AFTER_MS_MAX } from "./limits.js";
import type { Waiting } from "./queue.js";
import { bytesOf } from "./queue.js";
import type { Checked } from "./settings.js";

/** What became of a batch. */
export type Outcome =
  /** `rejected`: so many of its events were no events to the server, which says why in its stream `_rejects`. */
  | { readonly kind: "taken"; readonly rejected: number }
  /** `after`: the server wants to be left alone for so many milliseconds. */
  | { readonly kind: "failed"; readonly reason: string; readonly after: number | undefined }
  | { readonly kind: "refused"; readonly reason: string };

/** Bytes of a body beside its events. */
const ENVELOPE_BYTES = 64;

/** Sends batches. */
export class Sender {
  readonly #environment: Environment;
  readonly #settings: Checked;
  /** Bytes that are under way and outlive the page. */
  #kept = 0;

  constructor(environment: Environment, settings: Checked) {
    this.#environment = environment;
    this.#settings = settings;
  }

  /** Bytes of events that a beacon can carry now. */
  get beaconRoom(): number {
    const { appName, appVersion } = this.#settings;
    const envelope = ENVELOPE_BYTES + bytesOf(JSON.stringify([appName, appVersion]));
    return Math.max(0, BEACON_BYTES_MAX - this.#kept - envelope);
  }

  /** Posts a batch and waits for the answer. It never throws. */
  async post(batch: readonly Waiting[]): Promise<Outcome> {
    const body = this.#body(batch);
    const bytes = bytesOf(body);
    // What fits lives on when the page ends in the meantime.
    const keepalive = this.#kept + bytes <= BEACON_BYTES_MAX;
    this.#kept += keepalive ? bytes : 0;
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), ANSWER_MS_MAX);
    try {
      const response = await this.#environment.fetch(this.#settings.endpointUrl, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
        keepalive,
        signal: patience.signal,
      });
      return await judge(response);
    } catch (error) {
      const reason = patience.signal.aborted ? `no answer within ${ANSWER_MS_MAX / 1_000} s` : String(error);
      return { kind: "failed", reason, after: undefined };
    } finally {
      clearTimeout(timer);
      this.#kept -= keepalive ? bytes : 0;
    }
  }

  /**
   * Hands a batch to the browser, which sends it even if the page ends now. Whether it arrives nobody learns.
   *
   * To another origin it is `text/plain`, which a browser sends without asking first: a question before a beacon would
   * be one about cookies too, which few servers answer with yes.
   */
  beacon(batch: readonly Waiting[]): boolean {
    const { beacon, isOwn } = this.#environment;
    const { endpointUrl } = this.#settings;
    try {
      const type = isOwn(endpointUrl) ? "application/json" : "text/plain;charset=UTF-8";
      return beacon?.(endpointUrl, new Blob([this.#body(batch)], { type })) === true;
    } catch {
      return false;
    }
  }

  /** The events are JSON already; they are not made twice. */
  #body(batch: readonly Waiting[]): string {
    const { appName, appVersion } = this.#settings;
    const events = batch.map(({ json }) => json).join(",");
    const version = batch[0]?.version ?? appVersion;
    return `{"events":[${events}],"appName":${JSON.stringify(appName)},"appVersion":${JSON.stringify(version)}}`;
  }
}

async function judge(response: Response): Promise<Outcome> {
  const { status } = response;
  // Read to its end, so that the connection can be used again. What is lost of it does not matter.
  const text = await response.text().catch(() => "");
  if (response.ok) {
    const rejected = Number(response.headers.get("events-rejected") ?? 0);
    return { kind: "taken", rejected: Number.isSafeInteger(rejected) ? rejected : 0 };
  }
  const reason = `status ${status}: ${text.slice(0, ANSWER_SHOWN_MAX)}`;
  if (status >= 500 || status === 408 || status === 429) {
    return { kind: "failed", reason, after: retryAfter(response.headers.get("retry-after"), Date.now()) };
  }
  return { kind: "refused", reason };
}

/** `Retry-After` in ms: seconds or a date. */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (header === null || header.trim() === "") {
    return undefined;
  }
  const value = header.trim();
  const after = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - now;
  return Number.isNaN(after) ? undefined : Math.min(Math.max(after, 0), RETRY_AFTER_MS_MAX);
}
