/**
 * Whose a queue in storage is: of one living tab at a time, so that no two tabs send the same events.
 *
 * `navigator.locks` knows it exactly: a browser gives a lock back when its tab ends, however it ends. Where there are
 * no locks (pages that are neither of HTTPS nor of localhost), a tab says in storage every few seconds that it lives,
 * and one that was silent for minutes counts as dead. That may be wrong for a tab that slept; it notices when it wakes
 * up, and what went out twice in between has the same ids.
 */

import type { Environment, Locks, SharedStorage } from "./environment.js";
import { uuid } from "./event.js";

/** What this tab holds. */
export interface Leases {
  /** Takes a queue, unless a living tab has it. */
  take(queue: string): Promise<boolean>;
  /** Whether this tab has a queue, now. */
  holds(queue: string): boolean;
  /** What this tab took and did not give back. */
  held(): string[];
  /** Gives a queue back. */
  release(queue: string): void;
  /** Gives everything back. */
  releaseAll(): void;
}

/** How often a tab without locks says that it lives, in ms. Hidden tabs may be slower, once a minute. */
const ALIVE_EVERY = 10_000;

/** A tab that was silent for so long counts as dead, in ms. */
const DEAD_AFTER = 200_000;

/** So long after writing its name a tab looks whether another one wrote over it, in ms. */
const SETTLED_AFTER = 100;

/** The best that there is. */
export function leases(environment: Environment, prefix: string): Leases {
  const { locks, storage } = environment;
  if (!storage) {
    return new OwnMemory();
  }
  return locks ? new LockLeases(locks, prefix, storage) : new HeartbeatLeases(storage, prefix);
}

/** Nobody else sees a memory. */
class OwnMemory implements Leases {
  take(): Promise<boolean> {
    return Promise.resolve(true);
  }
  holds(): boolean {
    return true;
  }
  held(): string[] {
    return [];
  }
  release(): void {}
  releaseAll(): void {}
}

/** By the browser's locks. */
class LockLeases implements Leases {
  readonly #locks: Locks;
  readonly #prefix: string;
  readonly #storage: SharedStorage;
  readonly #held = new Map<string, () => void>();
  /** Takes over when the browser refuses locks, as it does in some frames. */
  #instead: Leases | undefined;

  constructor(locks: Locks, prefix: string, storage: SharedStorage) {
    this.#locks = locks;
    this.#prefix = prefix;
    this.#storage = storage;
  }

  async take(queue: string): Promise<boolean> {
    if (this.#instead) {
      return this.#instead.take(queue);
    }
    try {
      return await new Promise<boolean>((taken, refused) => {
        const name = `${this.#prefix}${queue}`;
        const request = this.#locks.request(name, { ifAvailable: true }, (lock) => {
          if (!lock) {
            taken(false);
            return Promise.resolve();
          }
          // The lock is held until this promise is fulfilled.
          return new Promise<void>((release) => {
            this.#held.set(queue, release);
            taken(true);
          });
        });
        request.catch(refused);
      });
    } catch {
      this.#instead ??= new HeartbeatLeases(this.#storage, this.#prefix);
      return this.#instead.take(queue);
    }
  }

  holds(queue: string): boolean {
    return this.#held.has(queue) || this.#instead?.holds(queue) === true;
  }

  held(): string[] {
    return [...this.#held.keys(), ...(this.#instead?.held() ?? [])];
  }

  release(queue: string): void {
    this.#held.get(queue)?.();
    this.#held.delete(queue);
    this.#instead?.release(queue);
  }

  releaseAll(): void {
    for (const release of this.#held.values()) {
      release();
    }
    this.#held.clear();
    this.#instead?.releaseAll();
  }
}

/** By signs of life in storage: `<prefix>alive/<queue>` is `<who> <when>`. */
class HeartbeatLeases implements Leases {
  readonly #storage: SharedStorage;
  readonly #prefix: string;
  readonly #me = uuid();
  readonly #held = new Set<string>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(storage: SharedStorage, prefix: string) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#sweep();
  }

  async take(queue: string): Promise<boolean> {
    if (this.#lives(queue) || !this.#write(queue)) {
      return false;
    }
    // Two may find it dead at the same time: the one that wrote last has it.
    await new Promise((settled) => setTimeout(settled, SETTLED_AFTER));
    if (this.#read(queue)?.who !== this.#me) {
      return false;
    }
    this.#held.add(queue);
    this.#timer ??= setInterval(() => this.#renew(), ALIVE_EVERY);
    return true;
  }

  holds(queue: string): boolean {
    return this.#held.has(queue) && this.#read(queue)?.who === this.#me;
  }

  held(): string[] {
    return [...this.#held];
  }

  release(queue: string): void {
    const mine = this.holds(queue);
    this.#held.delete(queue);
    if (mine) {
      this.#forget(queue);
    }
    if (this.#held.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  releaseAll(): void {
    for (const queue of [...this.#held]) {
      this.release(queue);
    }
  }

  #renew(): void {
    for (const queue of this.#held) {
      if (this.holds(queue)) {
        this.#write(queue);
      }
    }
  }

  /** Removes what tabs left behind that could not say goodbye. Their events, if any, are found without it. */
  #sweep(): void {
    const beginning = this.#key("");
    try {
      const keys = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index));
      for (const key of keys) {
        if (key?.startsWith(beginning) && !this.#lives(key.slice(beginning.length))) {
          this.#storage.removeItem(key);
        }
      }
    } catch {
      // It is small, and stays.
    }
  }

  #lives(queue: string): boolean {
    const last = this.#read(queue);
    return last !== undefined && last.who !== this.#me && Math.abs(Date.now() - last.when) < DEAD_AFTER;
  }

  #key(queue: string): string {
    return `${this.#prefix}alive/${queue}`;
  }

  #write(queue: string): boolean {
    try {
      this.#storage.setItem(this.#key(queue), `${this.#me} ${Date.now()}`);
      return true;
    } catch {
      return false;
    }
  }

  #read(queue: string): { readonly who: string; readonly when: number } | undefined {
    try {
      const [who, when] = (this.#storage.getItem(this.#key(queue)) ?? "").split(" ");
      return who && when ? { who, when: Number(when) } : undefined;
    } catch {
      return undefined;
    }
  }

  #forget(queue: string): void {
    try {
      this.#storage.removeItem(this.#key(queue));
    } catch {
      // It grows old.
    }
  }
}
