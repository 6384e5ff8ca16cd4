// Requests to our own API, in the name of the session.

const token = () => document.querySelector("#act [name=csrfmiddlewaretoken]").value;

// Returns {ok, status, data}; status 0 when there was no answer.
export async function post(url, body, headers = {}) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token(), ...headers },
      body: JSON.stringify(body ?? {}),
    });
    return { ok: answer.ok, status: answer.status, data: await answer.json().catch(() => null) };
  } catch {
    return { ok: false, status: 0, data: null };
  }
}

// Sends fields as a form does. Returns the response; null when there was no answer.
export async function postForm(url, fields = {}, accept = "text/html") {
  const body = new URLSearchParams(fields);
  try {
    return await fetch(url, { method: "POST", headers: { Accept: accept, "X-CSRFToken": token() }, body });
  } catch {
    return null;
  }
}
