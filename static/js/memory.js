// What this browser remembers. With storage switched off nothing is remembered and nothing fails.

export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Storage is full or off.
  }
}
