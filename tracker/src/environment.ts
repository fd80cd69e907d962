/**
 * What a tracker needs of the browser, so that tests can give it something else: two tabs, a full disk, no locks.
 */

/** Storage that all tabs of an origin share, as `localStorage`. */
export interface SharedStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(
    name: string,
    options: { readonly ifAvailable?: boolean },
    held: (lock: object | null) => Promise<void>,
  ): Promise<unknown>;
}

/** A page in a browser. */
export interface Environment {
  readonly fetch: (url: string, request: RequestInit) => Promise<Response>;
  /** Absent where the browser has none. It gives whether the browser took the body. */
  readonly beacon: ((url: string, body: Blob) => boolean) | undefined;
  /** Absent where the browser has none, or forbids it: then what waits is in memory alone. */
  readonly storage: SharedStorage | undefined;
  /** Absent on pages that are neither of HTTPS nor of localhost. */
  readonly locks: Locks | undefined;
  /** Where `pagehide`, `pageshow` and `online` happen. */
  readonly window: EventTarget;
  /** Where `visibilitychange` happens. */
  readonly document: EventTarget & { readonly visibilityState: DocumentVisibilityState };
  readonly page: () => { readonly path: string; readonly title: string };
  /** Whether an address is of the page's own origin. */
  readonly isOwn: (url: string) => boolean;
  /** Between 0 and 1. */
  readonly random: () => number;
}

/** The browser; nothing while a page is made on a server. */
export function browser(): Environment | undefined {
  if (typeof window === "undefined" || typeof document === "undefined") {
    return undefined;
  }
  const { navigator } = window;
  return {
    fetch: (url, request) => window.fetch(url, request),
    beacon: navigator.sendBeacon ? (url, body) => navigator.sendBeacon(url, body) : undefined,
    storage: usable(() => window.localStorage),
    locks: usableLocks(navigator),
    window,
    document,
    page: () => ({ path: window.location.pathname, title: document.title }),
    isOwn: (url) => new URL(url, window.location.href).origin === window.location.origin,
    random: Math.random,
  };
}

/** The storage, when it can be read and written: a browser may refuse even the attempt to look at it. */
function usable(open: () => SharedStorage): SharedStorage | undefined {
  const probe = "react-user-tracker/probe";
  try {
    const storage = open();
    storage.setItem(probe, "1");
    storage.removeItem(probe);
    return storage;
  } catch {
    return undefined;
  }
}

function usableLocks(navigator: Navigator): Locks | undefined {
  // Older browsers lack it, whatever the types say.
  const { locks } = navigator as { readonly locks?: LockManager };
  return locks && { request: (name, options, held) => locks.request(name, options, held) };
}
