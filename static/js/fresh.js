// Asks the server again and again for what may have changed, and says so when nobody answers.

const banner = document.getElementById("banner");

// ``get`` gives the answer, null where nothing changed since the last one, and throws when there was none.
export class Fresh {
  etag = "";
  asked = "";

  async get(url) {
    try {
      const headers = url === this.asked && this.etag ? { "If-None-Match": this.etag } : {};
      const answer = await fetch(url, { headers, cache: "no-store" });
      if (answer.redirected) throw new LoggedOut();
      if (!answer.ok && answer.status !== 304) throw new Error(answer.statusText);
      this.etag = answer.headers.get("ETag") ?? "";
      this.asked = url;
      banner.hidden = true;
      return answer.status === 304 ? null : answer;
    } catch (error) {
      warn(error);
      throw error;
    }
  }
}

// There is no use in asking again.
export class LoggedOut extends Error {}

function warn(error) {
  const words = banner.querySelector("span");
  if (error instanceof LoggedOut) {
    const link = Object.assign(document.createElement("a"), { href: document.body.dataset.loginUrl, textContent: "Log in again" });
    words.replaceChildren("You are logged out. Your jobs go on. ", link);
  } else if (banner.hidden) {
    words.textContent = "No answer from the server. Your jobs go on; this page tries again in 5 s";
  }
  banner.hidden = false;
}
