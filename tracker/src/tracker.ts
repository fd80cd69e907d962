/**
 * The tracker: takes events, keeps them until the server has them, and sends them in batches.
 *
 * ```text
 * track ──► queue (memory + storage) ──► batch ──► POST, one at a time ──► taken: forgotten
 *                 ▲                        │                              failed: later again
 *   queues of tabs that ended              └─ the page is hidden: beacon, and kept: nobody confirms it
 * ```
 *
 * # What it promises
 * - An event is sent until the server has answered that it took it, also by a later page; only a full queue, a
 *   refusal by the server, or the end of a page whose storage is full or forbidden loses it, and the log hears of it.
 * - One tab sends an event in one request at a time. Sent again it is only when nobody answered, under the same id.
 * - Nothing that it does throws into the application or waits for the network there.
 */

import { Backoff } from "./backoff.js";
import { browser, type Environment } from "./environment.js";
import { cut, describe, encode, uuid } from "./event.js";
import type { EventType, LocationType, Metadata, TrackedEvent } from "./event.js";
import { Holdings } from "./holdings.js";
import { BATCH_BYTES_MAX, EVENT_BYTES_MAX, NAME_MAX, PAGE_MAX } from "./limits.js";
import { bytesOf, EventQueue, type Waiting } from "./queue.js";
import { Sender } from "./sender.js";
import { check, type Checked, type TrackerSettings } from "./settings.js";

export type { Batch, DomInfo, EventType, LocationType, Metadata, TrackedEvent } from "./event.js";
export type { Log, TrackerSettings } from "./settings.js";

/** What is known about an event besides its type. */
export interface Details {
  /** The component that it happened on. */
  readonly component?: string;
  /** The element that it happened on; `dom_info` is made of it. */
  readonly element?: Element;
  /** Goes into `user_metadata`, over what [[UserTracker.setMetadata]] was given. */
  readonly metadata?: Metadata;
  /** Default: `COMPONENT` when there is a component or an element, else `PAGE`. */
  readonly location?: LocationType;
}

/** Tracks what people do on a page. */
export class UserTracker {
  readonly #settings: Checked;
  readonly #environment: Environment | undefined;
  readonly #queue: EventQueue;
  readonly #backoff: Backoff;
  readonly #sender: Sender | undefined;
  readonly #holdings: Holdings | undefined;
  #metadata: Metadata = {};
  /** One for each time between start and stop; its `signal` removes the listeners. */
  #session: AbortController | undefined;
  #stopped = false;
  /** Whether the page was left; it may come back. */
  #left = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<void> | undefined;
  /** Before this time nothing is tried again; `asked` when the server said so. */
  #pause: { readonly until: number; readonly asked: boolean } | undefined;

  /**
   * Makes a tracker; it does nothing before it is started or tracks something.
   *
   * @param environment is for tests, and for pages that are no pages of a browser.
   * @throws RangeError or TypeError when a setting is wrong.
   */
  constructor(settings: TrackerSettings, environment: Environment | undefined = browser()) {
    this.#settings = check(settings);
    this.#environment = environment;
    const names = [this.#settings.endpointUrl, this.#settings.appName].map(encodeURIComponent);
    const prefix = `react-user-tracker/${names.join("/")}/`;
    this.#queue = new EventQueue(environment?.storage, prefix, this.#settings.warn);
    this.#backoff = new Backoff(environment?.random ?? Math.random);
    if (environment) {
      this.#sender = new Sender(environment, this.#settings);
      const sender = { wake: () => this.#schedule(), settled: () => this.#sending };
      this.#holdings = new Holdings(environment, prefix, this.#queue, this.#settings.trace, sender);
    }
  }

  /** How many events wait: those that the server has not confirmed. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Begins to send, also what earlier pages left behind. Calling it again does nothing. */
  start(): void {
    const environment = this.#environment;
    if (!environment || this.#session) {
      return;
    }
    this.#stopped = false;
    const session = new AbortController();
    this.#session = session;
    const { signal } = session;
    const { document, window } = environment;
    const hidden = (): void => (document.visibilityState === "hidden" ? this.#hide() : this.#show());
    document.addEventListener("visibilitychange", hidden, { signal });
    window.addEventListener("pagehide", () => this.#leave(), { signal });
    window.addEventListener("pageshow", () => this.#comeBack(), { signal });
    window.addEventListener("online", () => this.#retry(), { signal });
    this.#holdings?.open();
  }

  /** Sends nothing any more, and leaves what waits to the next start or to another tab. */
  stop(): void {
    this.#stopped = true;
    this.#session?.abort();
    this.#session = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#holdings?.close();
  }

  /** Goes with every event from now on, as the id of a person or the version of an experiment. */
  setMetadata(metadata: Metadata): void {
    this.#metadata = { ...metadata };
  }

  /** Takes an event and gives its id; nothing when it cannot be taken, and then the log says why. */
  track(type: EventType, details: Details = {}): string | undefined {
    const { warn, trace } = this.#settings;
    if (!this.#environment) {
      return undefined;
    }
    try {
      const event = this.#event(this.#environment, type, details);
      const json = encode(event);
      const bytes = bytesOf(json);
      if (bytes > EVENT_BYTES_MAX) {
        warn(`an event of ${bytes} bytes is not taken: the limit is ${EVENT_BYTES_MAX}`, type);
        return undefined;
      }
      this.#queue.push(event, json, this.#settings.appVersion, this.#holdings?.own);
      trace(`tracked ${type}`, event);
      if (!this.#session && !this.#stopped) {
        this.start();
      }
      this.#schedule();
      if (this.#left) {
        // The application says something in the last moment, when nothing is stored any more.
        this.#hide();
      }
      return event.event_id;
    } catch (error) {
      warn("an event is not taken", error);
      return undefined;
    }
  }

  /** Tracks that a page was opened. */
  pageView(metadata?: Metadata): string | undefined {
    return this.track("PAGE_VIEW", { location: "PAGE", ...(metadata && { metadata }) });
  }

  /**
   * Sends what waits, now, unless the server asked for a pause; gives how many events still wait then.
   */
  async flush(): Promise<number> {
    await this.#sending;
    if (!this.#pause?.asked) {
      this.#pause = undefined;
    }
    await this.#send();
    return this.#queue.length;
  }

  #event(environment: Environment, type: EventType, details: Details): TrackedEvent {
    const { component, element, metadata, location } = details;
    const { path, title } = environment.page();
    return {
      timestamp: Date.now(),
      event_id: uuid(),
      event_type: cut(String(type), NAME_MAX),
      location_type: location ?? (component !== undefined || element ? "COMPONENT" : "PAGE"),
      ...(component !== undefined && { component_name: cut(component, NAME_MAX) }),
      page_path: cut(path, PAGE_MAX),
      page_title: cut(title, PAGE_MAX),
      ...(element && { dom_info: describe(element) }),
      user_metadata: { ...this.#metadata, ...metadata },
    };
  }

  /** The page goes, perhaps to come back. */
  #leave(): void {
    this.#left = true;
    this.#hide();
    this.#holdings?.close();
  }

  #comeBack(): void {
    this.#left = false;
    this.#holdings?.open();
  }

  /** Sends soon: at once when a batch is full, within the interval otherwise. */
  #schedule(atOnce = true): void {
    if (!this.#session || this.#sending || this.#queue.length === 0) {
      return;
    }
    const pause = this.#pause ? this.#pause.until - Date.now() : 0;
    const full = atOnce && this.#queue.length >= this.#settings.batchSize;
    if (pause > 0) {
      this.#wait(pause);
    } else if (full) {
      void this.#send();
    } else if (this.#timer === undefined) {
      this.#wait(this.#settings.flushInterval);
    }
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pause = undefined;
      void this.#send();
    }, ms);
  }

  /** Sends batch after batch until nothing waits or one fails. One call at a time does it. */
  #send(): Promise<void> {
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
      // What waits now waits for a reason: a pause, mostly.
      this.#schedule(false);
    });
    return this.#sending;
  }

  async #sendAll(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const mine = (waiting: Waiting): boolean => this.#holdings?.has(waiting) === true;
    while (this.#session && this.#sender && !this.#paused()) {
      this.#holdings?.tidy();
      const batch = this.#queue.batch(this.#settings.batchSize, BATCH_BYTES_MAX, mine);
      if (batch.length === 0) {
        return;
      }
      await this.#sendOne(this.#sender, batch);
    }
  }

  async #sendOne(sender: Sender, batch: readonly Waiting[]): Promise<void> {
    const { trace, warn } = this.#settings;
    this.#mark(batch, true);
    const outcome = await sender.post(batch);
    this.#mark(batch, false);
    if (outcome.kind === "failed") {
      const { after, reason } = outcome;
      const pause = this.#backoff.failed(after);
      this.#pause = { until: Date.now() + pause, asked: after !== undefined };
      trace(`a batch was not taken, the next try is in ${Math.round(pause)} ms`, reason);
      return;
    }
    this.#backoff.succeeded();
    this.#queue.remove(batch);
    if (outcome.kind === "refused") {
      const events = batch.map(({ json }) => JSON.parse(json) as TrackedEvent);
      warn(`the server refuses a batch, which is dropped: ${outcome.reason}`, events);
    } else if (outcome.rejected > 0) {
      const ids = batch.map(({ id }) => id);
      warn(`the server took a batch but for ${outcome.rejected} of its events, which were not what it expects`, ids);
    } else {
      trace("a batch was taken", { events: batch.length });
    }
  }

  #mark(batch: readonly Waiting[], inFlight: boolean): void {
    for (const waiting of batch) {
      waiting.inFlight = inFlight;
    }
  }

  #paused(): boolean {
    return this.#pause !== undefined && this.#pause.until > Date.now();
  }

  /** The page may end any moment: everything that no request carries goes with a beacon. */
  #hide(): void {
    const sender = this.#sender;
    const later = this.#pause?.asked === true && this.#paused();
    // When the server asked for a pause, only what would be lost otherwise is sent in spite of it.
    const goes = ({ place, beaconed }: Waiting): boolean => !beaconed && !(later && place);
    let room = sender?.beaconRoom ?? 0;
    for (let most = Infinity; sender && most >= 1; ) {
      const batch = this.#queue.batch(most, room, goes);
      if (batch.length === 0) {
        return;
      }
      if (sender.beacon(batch)) {
        for (const waiting of batch) {
          waiting.beaconed = true;
          room -= waiting.bytes;
        }
      } else {
        // Somebody else on the page has used up what browsers allow: perhaps half of it still goes.
        most = Math.floor(batch.length / 2);
      }
    }
  }

  #show(): void {
    void this.#holdings?.adopt();
    this.#retry();
  }

  /** The network is back, perhaps: no need to wait longer, unless the server asked for it. */
  #retry(): void {
    if (this.#pause && !this.#pause.asked) {
      this.#pause = undefined;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (this.#queue.length > 0) {
        void this.#send();
      }
    }
  }
}
