const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));

/** Whether a key is a shortcut: no modifier, nobody types into a field, no dialog is open. */
export const isFree = (event: KeyboardEvent): boolean =>
  !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat && !typing(event.target) &&
  !document.querySelector("dialog[open]");
