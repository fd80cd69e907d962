/**
 * Which queues in storage are this tab's: one of its own for new events, and those that it took over from tabs that
 * ended. They are given back when the page goes, even if it may come back: another tab sends what it left.
 */

import type { Environment } from "./environment.js";
import { uuid } from "./event.js";
import { leases, type Leases } from "./lease.js";
import type { EventQueue, Waiting } from "./queue.js";
import type { Log } from "./settings.js";

/** When a tab looks for queues of tabs that ended, in ms after its start: a reload may not be through at once. */
const LOOK_AFTER = 2_000;

/** And how often from then on, in ms. */
const LOOK_EVERY = 60_000;

/** Who sends what waits. */
export interface HoldingsSender {
  /** There may be something to send. */
  wake(): void;
  /** Fulfilled when nothing is under way. */
  settled(): Promise<void> | undefined;
}

/** The queues of one tab. */
export class Holdings {
  readonly #leases: Leases;
  readonly #queue: EventQueue;
  readonly #trace: Log;
  readonly #sender: HoldingsSender;
  #own: string | undefined;
  /** One for each time between `open` and `close`. */
  #session: object | undefined;
  #look: ReturnType<typeof setTimeout> | undefined;

  constructor(environment: Environment, prefix: string, queue: EventQueue, trace: Log, sender: HoldingsSender) {
    this.#leases = leases(environment, prefix);
    this.#queue = queue;
    this.#trace = trace;
    this.#sender = sender;
  }

  /** The queue that new events are stored in, once it is this tab's. */
  get own(): string | undefined {
    return this.#own;
  }

  /** Whether this tab may send an event. */
  has({ place }: Waiting): boolean {
    return !place || this.#leases.holds(place.queue);
  }

  /** Takes a queue under a new name, and then what others left. */
  open(): void {
    if (this.#session) {
      return;
    }
    const session = {};
    this.#session = session;
    void this.#begin().then(async () => {
      await this.adopt();
      this.#lookAgain(session, LOOK_AFTER);
    });
  }

  /** Gives everything back. What lies in storage is forgotten here. */
  close(): void {
    this.#session = undefined;
    this.#own = undefined;
    clearTimeout(this.#look);
    this.#queue.release();
    this.#leases.releaseAll();
  }

  /** Takes over the queues of tabs that ended. */
  async adopt(): Promise<void> {
    const session = this.#session;
    // What is under way since before the last `close` must not be loaded, and sent, a second time.
    await this.#sender.settled();
    for (const queue of session ? this.#queue.stored() : []) {
      if (queue === this.#own) {
        continue;
      }
      const mine = this.#leases.holds(queue) || (await this.#leases.take(queue));
      if (this.#session !== session) {
        this.#leases.release(queue);
        return;
      }
      if (!mine) {
        continue;
      }
      const events = this.#queue.load(queue);
      if (events > 0) {
        this.#trace("took over what an earlier page left", { events });
        this.#sender.wake();
      }
    }
  }

  /** Gives back what is empty, and forgets events that another tab has meanwhile, because this one slept. */
  tidy(): void {
    for (const queue of this.#queue.held()) {
      if (!this.#leases.holds(queue)) {
        this.#queue.release(queue);
        if (queue === this.#own) {
          this.#own = undefined;
          void this.#begin();
        }
      }
    }
    for (const queue of this.#leases.held()) {
      if (queue !== this.#own && !this.#queue.has(queue) && this.#queue.load(queue) === 0) {
        this.#leases.release(queue);
      }
    }
  }

  async #begin(): Promise<void> {
    const session = this.#session;
    const own = uuid();
    const taken = await this.#leases.take(own);
    if (this.#session !== session || this.#own !== undefined) {
      this.#leases.release(own);
    } else if (taken) {
      this.#own = own;
      this.#queue.store(own);
    }
    this.#sender.wake();
  }

  #lookAgain(session: object, after: number): void {
    if (this.#session === session) {
      this.#look = setTimeout(() => void this.adopt().then(() => this.#lookAgain(session, LOOK_EVERY)), after);
    }
  }
}
