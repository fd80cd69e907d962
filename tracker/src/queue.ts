/**
 * The events that wait, in the order in which they came, and their copy in storage.
 *
 * Each event lies under a key of its own, so that taking one and removing it cost the same however many wait:
 *
 * ```text
 * react-user-tracker/<endpoint>/<application>/queue/<queue>/<number>   {"v": <version of the application>, "e": {…}}
 * ```
 *
 * An event leaves storage when the server has answered that it has it, and not before: a page may end at any moment.
 * A queue belongs to one tab at a time; `lease.ts` says to which.
 */

import type { SharedStorage } from "./environment.js";
import type { TrackedEvent } from "./event.js";
import { EVENT_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX } from "./limits.js";
import type { Log } from "./settings.js";

/** An event that waits. */
export interface Waiting {
  /** The queue that it lies in, and its key there; absent while it is in memory alone. */
  place: { readonly queue: string; readonly key: string } | undefined;
  /** The event as JSON. */
  readonly json: string;
  readonly id: string;
  /** The application's version at the time. */
  readonly version: string;
  readonly bytes: number;
  /** Whether it is part of a request that has no answer yet. */
  inFlight: boolean;
  /** Whether a beacon took it, which nobody will ever confirm. */
  beaconed: boolean;
}

const encoder = new TextEncoder();

/** Bytes of a text in UTF-8. */
export function bytesOf(text: string): number {
  return encoder.encode(text).length;
}

/** What waits in this tab. */
export class EventQueue {
  readonly #storage: SharedStorage | undefined;
  readonly #prefix: string;
  readonly #warn: Log;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #next = 0;
  /** Whether it was said that storage is full; once is enough. */
  #full = false;

  constructor(storage: SharedStorage | undefined, prefix: string, warn: Log) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#warn = warn;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Takes an event, and makes room for it where needed. `queue` is where it is stored, once that is known. */
  push(event: TrackedEvent, json: string, version: string, queue: string | undefined): void {
    const waiting: Waiting = {
      place: undefined,
      json,
      id: event.event_id,
      version,
      bytes: bytesOf(json),
      inFlight: false,
      beaconed: false,
    };
    this.#add(waiting);
    if (queue !== undefined) {
      this.#store(waiting, queue);
    }
  }

  /** Stores what is in memory alone. */
  store(queue: string): void {
    for (const waiting of this.#waiting) {
      if (waiting.place === undefined) {
        this.#store(waiting, queue);
      }
    }
  }

  /** The oldest events that one request can carry: of one version, not in flight, within these bounds. */
  batch(events: number, bytes: number, accept: (waiting: Waiting) => boolean = () => true): Waiting[] {
    const batch: Waiting[] = [];
    let room = bytes;
    for (const waiting of this.#waiting) {
      if (waiting.inFlight || !accept(waiting)) {
        continue;
      }
      room -= waiting.bytes + 1;
      const fits = room >= 0 && batch.length < events;
      if (!fits || (batch[0] && batch[0].version !== waiting.version)) {
        break;
      }
      batch.push(waiting);
    }
    return batch;
  }

  /** Removes events that need not be sent any more. */
  remove(done: readonly Waiting[]): void {
    const gone = new Set(done);
    this.#waiting = this.#waiting.filter((waiting) => !gone.has(waiting));
    this.#count();
    for (const { place } of gone) {
      if (place) {
        this.#forgetStored(place.key);
      }
    }
  }

  /** Queues in storage, this tab's own among them. */
  stored(): string[] {
    return [...new Set(this.#keys().map((key) => this.#queueOf(key)))];
  }

  /** Queues in storage that something here came from. */
  held(): string[] {
    const queues = this.#waiting.flatMap(({ place }) => (place ? [place.queue] : []));
    return [...new Set(queues)];
  }

  /** Whether an event of that queue waits here. */
  has(queue: string): boolean {
    return this.#waiting.some((waiting) => waiting.place?.queue === queue);
  }

  /** Loads the events of a queue that is this tab's now, as many as there is room for. Gives how many. */
  load(queue: string): number {
    const known = new Set(this.#waiting.map((waiting) => waiting.place?.key));
    const keys = this.#keys().filter((key) => this.#queueOf(key) === queue && !known.has(key));
    let loaded = 0;
    for (const key of keys.sort()) {
      const waiting = this.#read(queue, key);
      if (!waiting) {
        continue;
      }
      if (this.#waiting.length >= QUEUE_EVENTS_MAX || this.#bytes + waiting.bytes > QUEUE_BYTES_MAX) {
        break;
      }
      this.#add(waiting);
      loaded += 1;
    }
    return loaded;
  }

  /** Lets go of what lies in storage, of one queue or of all: somebody else may have it from now on. */
  release(queue?: string): void {
    this.#waiting = this.#waiting.filter(
      ({ place }) => !place || (queue !== undefined && place.queue !== queue),
    );
    this.#count();
  }

  #add(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#bytes += waiting.bytes;
    const dropped: Waiting[] = [];
    let events = this.#waiting.length;
    let bytes = this.#bytes;
    for (const oldest of this.#waiting) {
      if (events <= QUEUE_EVENTS_MAX && bytes <= QUEUE_BYTES_MAX) {
        break;
      }
      if (!oldest.inFlight && oldest !== waiting) {
        dropped.push(oldest);
        events -= 1;
        bytes -= oldest.bytes;
      }
    }
    if (dropped.length > 0) {
      this.remove(dropped);
      this.#warn("too many events wait: the oldest are dropped", { dropped: dropped.map(({ id }) => id) });
    }
  }

  #count(): void {
    this.#bytes = this.#waiting.reduce((sum, waiting) => sum + waiting.bytes, 0);
  }

  #store(waiting: Waiting, queue: string): void {
    if (!this.#storage) {
      return;
    }
    this.#next += 1;
    const key = `${this.#prefix}queue/${queue}/${String(this.#next).padStart(12, "0")}`;
    try {
      this.#storage.setItem(key, `{"v":${JSON.stringify(waiting.version)},"e":${waiting.json}}`);
      waiting.place = { queue, key };
      this.#full = false;
    } catch (error) {
      // Others may have filled it, and there is nothing of theirs to be removed by us.
      if (!this.#full) {
        this.#full = true;
        this.#warn("storage takes no more: events wait in memory, and are lost when the page ends early", error);
      }
    }
  }

  #read(queue: string, key: string): Waiting | undefined {
    try {
      const text = this.#storage?.getItem(key);
      const { v, e } = JSON.parse(text ?? "null") as { readonly v: unknown; readonly e: { event_id: unknown } };
      const json = JSON.stringify(e);
      const bytes = bytesOf(json);
      if (typeof v === "string" && typeof e.event_id === "string" && bytes <= EVENT_BYTES_MAX) {
        const place = { queue, key };
        return { place, json, id: e.event_id, version: v, bytes, inFlight: false, beaconed: false };
      }
    } catch {
      // Not JSON, or gone meanwhile.
    }
    this.#warn("something in storage is no event, and is removed", key);
    this.#forgetStored(key);
    return undefined;
  }

  #forgetStored(key: string): void {
    try {
      this.#storage?.removeItem(key);
    } catch {
      // It stays, and is sent once more by a later page; the server knows its id.
    }
  }

  /** Keys of all queues of this endpoint and application. */
  #keys(): string[] {
    const keys: string[] = [];
    const beginning = `${this.#prefix}queue/`;
    try {
      for (let index = 0; index < (this.#storage?.length ?? 0); index += 1) {
        const key = this.#storage?.key(index);
        if (key?.startsWith(beginning)) {
          keys.push(key);
        }
      }
    } catch {
      // A browser may forbid storage at any time.
    }
    return keys;
  }

  #queueOf(key: string): string {
    return key.slice(this.#prefix.length).split("/")[1] ?? "";
  }
}
