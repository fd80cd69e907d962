/**
 * An event, as it goes to the server: its fields, its id, and what is said about the element that it happened on.
 */

import { NAME_MAX, TEXT_MAX } from "./limits.js";

/** What happened. The four names are those that the hook uses; any other one may be tracked. */
export type EventType = "CLICK" | "HOVER_ENTER" | "HOVER_LEAVE" | "PAGE_VIEW" | (string & {});

/** Whether it happened on a component or on the page as a whole. */
export type LocationType = "COMPONENT" | "PAGE";

/** Whatever the application wants to know with an event: anything that JSON can say. */
export type Metadata = Readonly<Record<string, unknown>>;

/** The element that an event happened on. */
export interface DomInfo {
  /** In lower case, as `button`. */
  readonly tag: string;
  readonly id?: string;
  readonly className?: string;
  /** The beginning of its text; never of what a person writes into a field. */
  readonly text?: string;
}

/** One event. */
export interface TrackedEvent {
  /** Milliseconds since 1970, by the clock of the browser. */
  readonly timestamp: number;
  /** A uuid, version 4: the server stores each one once, so sending an event again is harmless. */
  readonly event_id: string;
  readonly event_type: EventType;
  readonly location_type: LocationType;
  readonly component_name?: string;
  /** The path of the page, without its query. */
  readonly page_path: string;
  readonly page_title: string;
  readonly dom_info?: DomInfo;
  readonly user_metadata: Metadata;
}

/** The body of a request. */
export interface Batch {
  readonly events: readonly TrackedEvent[];
  readonly appName: string;
  readonly appVersion: string;
}

/** Elements whose text is what somebody wrote. */
const WRITTEN = "input, textarea, select, [contenteditable]";

/** Text nodes that are looked at, so that hovering over a large element costs little. */
const TEXT_NODES_MAX = 50;

/** Says which element it is. */
export function describe(element: Element): DomInfo {
  const className = element.getAttribute("class")?.trim();
  const text = element.matches(WRITTEN) ? "" : textOf(element);
  return {
    tag: element.tagName.toLowerCase(),
    ...(element.id && { id: cut(element.id, NAME_MAX) }),
    ...(className && { className: cut(className, NAME_MAX) }),
    ...(text && { text }),
  };
}

/** The first words of an element. */
function textOf(element: Element): string {
  const texts = element.ownerDocument.createTreeWalker(element, 4 /* NodeFilter.SHOW_TEXT */);
  let text = "";
  for (let nodes = 0; nodes < TEXT_NODES_MAX && text.length < TEXT_MAX && texts.nextNode(); nodes += 1) {
    const node = texts.currentNode;
    if (!node.parentElement?.closest(`${WRITTEN}, script, style`)) {
      text = `${text} ${cut(node.nodeValue ?? "", 2 * TEXT_MAX)}`.replace(/\s+/g, " ").trimStart();
    }
  }
  return cut(text.trim(), TEXT_MAX);
}

/** At most so many characters, and no half of a pair of surrogates. */
export function cut(text: string, length: number): string {
  return wellFormed(text.slice(0, length).replace(/[\uD800-\uDBFF]$/, ""));
}

/** A text whose surrogates are pairs: the server refuses others, as they are no Unicode. */
function wellFormed(text: string): string {
  return text.replace(/[\uD800-\uDBFF][\uDC00-\uDFFF]|[\uD800-\uDFFF]/g, (found) =>
    found.length === 2 ? found : "\uFFFD",
  );
}

/**
 * An event as JSON.
 *
 * @throws TypeError for metadata that JSON cannot say, as a ring of objects or a bigint.
 */
export function encode(event: TrackedEvent): string {
  return JSON.stringify(event, (_key, value: unknown) => (typeof value === "string" ? wellFormed(value) : value));
}

/** A random uuid, version 4. `crypto.randomUUID` exists on pages of HTTPS and of localhost only. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
