/**
 * Every bound of the tracker, with its reason. Bytes are those of JSON in UTF-8.
 */

/** Events that wait, in memory and in storage; the oldest goes when one more comes. */
export const QUEUE_EVENTS_MAX = 1_000;

/** Bytes of events that wait: a fifth of the 5 MiB that browsers give to an origin. */
export const QUEUE_BYTES_MAX = 1 << 20;

/** Bytes of one event. It leaves 12 KiB for `user_metadata`, and four of the largest fit into a beacon. */
export const EVENT_BYTES_MAX = 15 << 10;

/** Bytes of one batch, however many events `batchSize` allows. */
export const BATCH_BYTES_MAX = 256 << 10;

/** Largest `batchSize`. */
export const BATCH_EVENTS_MAX = 500;

/**
 * Bytes that beacons and requests with `keepalive` of one page may have under way together: browsers refuse more than
 * 64 KiB, of which the rest is left for others on the page.
 */
export const BEACON_BYTES_MAX = 62 << 10;

/** A request without an answer after this time counts as failed, in ms. */
export const ANSWER_MS_MAX = 30_000;

/** The first pause after a failure, in ms; each further one is twice as long. */
export const RETRY_MS_MIN = 1_000;

/** Longest pause between two tries, in ms. */
export const RETRY_MS_MAX = 60_000;

/** Longest `Retry-After` that is believed, in ms. */
export const RETRY_AFTER_MS_MAX = 3_600_000;

/** Characters of an element's text. */
export const TEXT_MAX = 100;

/** Characters of an element's id and class names, and of a component's name. */
export const NAME_MAX = 256;

/** Characters of a path and of a title. */
export const PAGE_MAX = 1_024;

/** Characters of an answer that are shown when a batch was refused. */
export const ANSWER_SHOWN_MAX = 500;
