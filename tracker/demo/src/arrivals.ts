/**
 * Events that the server has: the newest ones at first, then each one as it arrives, over Server-Sent Events; where
 * those cannot be had, by asking again and again. Both name each event by its id, so nothing is shown twice.
 */

import type { TrackedEvent } from "../../src/index.js";
import type { DemoSettings } from "./settings.js";

/** An event that came back. */
export interface Arrival {
  readonly event: TrackedEvent;
  /** When this page saw it, in ms since 1970. */
  readonly seen: number;
  /** Whether it was there before this page asked. */
  readonly old: boolean;
}

/** How the server is reached. */
export type Line = "connecting" | "live" | "polling" | "away";

/** What listens. */
export interface Listener {
  readonly arrived: (arrivals: readonly Arrival[]) => void;
  readonly changed: (line: Line) => void;
}

const POLL_EVERY = 1_000;
const RETRY_AFTER = 1_500;
/** As many as the page asks for. */
const PAGE = 30;

/** Listens until the function that it gives is called. */
export function listen(settings: DemoSettings, listener: Listener): () => void {
  let ended = false;
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const later = (work: () => void, ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => !ended && work(), ms);
  };

  /** Asks for the newest events; gives whether there was an answer. */
  const ask = async (old: boolean): Promise<boolean> => {
    try {
      const response = await fetch(`${settings.events}?limit=${PAGE}`);
      const body: unknown = response.ok ? await response.json() : [];
      const events = (Array.isArray(body) ? body : []).map(read).filter((event) => event !== undefined);
      if (!ended && events.length > 0) {
        const seen = Date.now();
        listener.arrived(events.reverse().map((event) => ({ event, seen, old })));
      }
      return response.ok;
    } catch {
      return false;
    }
  };

  const poll = async (): Promise<void> => {
    const answered = await ask(false);
    if (!ended) {
      listener.changed(answered ? "polling" : "away");
      // Perhaps the server can do better by now.
      later(answered ? () => void poll() : () => connect(false), POLL_EVERY);
    }
  };

  const connect = (first: boolean): void => {
    const opened = new EventSource(settings.tail);
    source = opened;
    let everOpen = false;
    opened.onopen = () => {
      // What came while nobody listened.
      void ask(first && !everOpen);
      everOpen = true;
      listener.changed("live");
    };
    opened.onmessage = ({ data }: MessageEvent<unknown>) => {
      const event = read(parse(data));
      if (event) {
        listener.arrived([{ event, seen: Date.now(), old: false }]);
      }
    };
    // The server says that some went by too quickly for this page.
    opened.addEventListener("missed", () => void ask(false));
    opened.onerror = () => {
      if (opened.readyState !== EventSource.CLOSED) {
        // The browser tries again by itself, and says where it was.
        listener.changed("away");
        return;
      }
      // An answer that is no stream: there is none, or the server is about to stop.
      opened.close();
      later(() => void poll(), first ? 0 : RETRY_AFTER);
    };
  };

  listener.changed("connecting");
  connect(true);
  return () => {
    ended = true;
    clearTimeout(timer);
    source?.close();
  };
}

function parse(data: unknown): unknown {
  try {
    return typeof data === "string" ? JSON.parse(data) : undefined;
  } catch {
    return undefined;
  }
}

/** An event as the server tells it: its time may be a date, its metadata may be text. */
function read(value: unknown): TrackedEvent | undefined {
  if (typeof value !== "object" || value === null) {
    return undefined;
  }
  const field = (name: string): unknown => Reflect.get(value, name);
  const text = (name: string): string => (typeof field(name) === "string" ? String(field(name)) : "");
  const time = field("timestamp");
  const written = field("user_metadata");
  const metadata = typeof written === "string" ? parse(written) : written;
  if (text("event_id") === "") {
    return undefined;
  }
  return {
    event_id: text("event_id"),
    event_type: text("event_type"),
    location_type: text("location_type") === "PAGE" ? "PAGE" : "COMPONENT",
    component_name: text("component_name"),
    page_path: text("page_path"),
    page_title: text("page_title"),
    timestamp: typeof time === "number" ? time : Date.parse(String(time)),
    user_metadata: typeof metadata === "object" && metadata !== null ? { ...metadata } : {},
  };
}
