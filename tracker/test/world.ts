/**
 * A browser with tabs, without a browser: they share storage and locks, and each may be hidden, left, or killed.
 */

import type { Environment, Locks, SharedStorage } from "../src/environment.js";
import type { Batch, TrackedEvent } from "../src/event.js";
import { UserTracker, type TrackerSettings } from "../src/tracker.js";

/** Storage with a quota, in characters. */
export class FakeStorage implements SharedStorage {
  readonly items = new Map<string, string>();
  quota = Infinity;

  get length(): number {
    return this.items.size;
  }
  key(index: number): string | null {
    return [...this.items.keys()][index] ?? null;
  }
  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    const others = [...this.items].filter(([name]) => name !== key);
    const used = others.reduce((sum, [name, text]) => sum + name.length + text.length, 0);
    if (used + key.length + value.length > this.quota) {
      throw new DOMException("full", "QuotaExceededError");
    }
    this.items.set(key, value);
  }
  removeItem(key: string): void {
    this.items.delete(key);
  }
}

/** Locks of one origin; each tab sees them through its own `of`. */
export class FakeLocks {
  readonly #held = new Map<string, object>();

  of(tab: object): Locks {
    return {
      request: async (name, _options, held) => {
        await Promise.resolve();
        if (this.#held.has(name)) {
          return held(null);
        }
        this.#held.set(name, tab);
        const done = held({});
        return done.finally(() => this.#held.get(name) === tab && this.#held.delete(name));
      },
    };
  }

  /** What a browser does when a tab ends. */
  free(tab: object): void {
    for (const [name, holder] of this.#held) {
      if (holder === tab) {
        this.#held.delete(name);
      }
    }
  }
}

export type Answer = (request: { readonly batch: Batch; readonly init: RequestInit }) => Promise<Response> | Response;

/** A tab, as the tracker sees it. */
export class Tab implements Environment {
  readonly window = new EventTarget();
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" as DocumentVisibilityState });
  readonly beacons: Blob[] = [];
  readonly posted: Batch[] = [];
  readonly storage: SharedStorage | undefined;
  readonly locks: Locks | undefined;
  /** Bytes that a beacon may have; browsers have one sum for all that are under way. */
  beaconBytes = 64 << 10;
  answer: Answer;
  /** A tab that was killed runs no code any more. */
  killed = false;
  readonly #locks: FakeLocks | undefined;

  constructor(answer: Answer, storage?: SharedStorage, locks?: FakeLocks) {
    this.answer = answer;
    this.storage = storage;
    this.#locks = locks;
    this.locks = locks?.of(this);
  }

  readonly random = (): number => 0.5;
  readonly isOwn = (url: string): boolean => url.startsWith("/");
  readonly page = (): { path: string; title: string } => ({ path: "/shop", title: "Shop" });

  readonly fetch = async (_url: string, init: RequestInit): Promise<Response> => {
    const batch = JSON.parse(String(init.body)) as Batch;
    this.posted.push(batch);
    const aborted = new Promise<never>((_, refuse) => {
      init.signal?.addEventListener("abort", () => refuse(new DOMException("aborted", "AbortError")));
    });
    const response = await Promise.race([this.answer({ batch, init }), aborted]);
    return this.killed ? new Promise<never>(() => undefined) : response;
  };

  readonly beacon = (_url: string, body: Blob): boolean => {
    const underWay = this.beacons.reduce((sum, { size }) => sum + size, 0);
    if (underWay + body.size > this.beaconBytes) {
      return false;
    }
    this.beacons.push(body);
    return true;
  };

  hide(): void {
    this.document.visibilityState = "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
  show(): void {
    this.document.visibilityState = "visible";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
  /** The page is left: it may come back. */
  leave(): void {
    this.hide();
    this.window.dispatchEvent(new Event("pagehide"));
  }
  comeBack(): void {
    this.window.dispatchEvent(new Event("pageshow"));
    this.show();
  }
  /** The tab crashes: nothing of it runs any more, and the browser frees its locks. */
  kill(tracker: UserTracker): void {
    this.killed = true;
    tracker.stop();
    this.#locks?.free(this);
  }

  /** Ids of all events that were posted, in order. */
  get ids(): string[] {
    return this.posted.flatMap(({ events }) => events.map(({ event_id }) => event_id));
  }
  /** Events of all beacons. */
  async beaconed(): Promise<TrackedEvent[]> {
    const texts = await Promise.all(this.beacons.map((blob) => blob.text()));
    return texts.flatMap((text) => (JSON.parse(text) as Batch).events);
  }
}

export const ok = (): Response => Response.json({ status: "ok" });
export const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  () =>
    new Response(`{"error":"${code}"}`, { status: code, headers });

/** What the log heard. */
export type Said = { readonly message: string; readonly detail: unknown }[];

export function tracker(tab: Tab, more: Partial<TrackerSettings> = {}): { tracked: UserTracker; said: Said } {
  const said: Said = [];
  const log = (message: string, detail?: unknown): void => void said.push({ message, detail });
  const settings = { endpointUrl: "/track", appName: "shop", appVersion: "1.0.0", log, ...more };
  return { tracked: new UserTracker(settings, tab), said };
}

/** A generator of numbers that gives the same ones for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
