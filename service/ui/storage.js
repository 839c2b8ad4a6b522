/** What the browser keeps. Where it keeps nothing, because site data is blocked or full, the page keeps it while open. */

/** A drawer of one kind of storage, which may refuse at any time: even to name it can throw. */
class Drawer {
  /** @param {() => Storage} open */
  constructor(open) {
    this.open = open;
    /** @type {Map<string, string>} */
    this.here = new Map();
  }

  /** @param {string} name @returns {string | null} */
  get(name) {
    try {
      return this.here.get(name) ?? this.open().getItem(name);
    } catch {
      return null;
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   * @returns {boolean} false when it is kept no longer than the page is open
   */
  set(name, value) {
    try {
      this.open().setItem(name, value);
      this.here.delete(name);
      return true;
    } catch {
      this.here.set(name, value);
      return false;
    }
  }

  /** @param {string} name */
  remove(name) {
    this.here.delete(name);
    try {
      this.open().removeItem(name);
    } catch {
      // Nothing was kept.
    }
  }

  /** Whether the browser keeps nothing at all here. */
  get blocked() {
    try {
      return !this.open();
    } catch {
      return true;
    }
  }
}

/** Kept until the reader clears it. */
export const local = new Drawer(() => localStorage);

/** Kept until the tab is closed. */
export const session = new Drawer(() => sessionStorage);
