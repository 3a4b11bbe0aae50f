// A SMART on FHIR app in one file, to be read from top to bottom: a public client (no secret) in a browser.
// SMART App Launch 2.2; RFC 6749 (OAuth 2.0), 7636 (PKCE), 9207 (iss), 7009 (revocation).
// Copy it and change SETTINGS; README.md says what else there is to think of.

const SETTINGS = {
  clientId: "sample-app",
  // Exactly as registered.
  redirectUri: new URL("index.html", location.href).href,
  // FHIR servers that this app talks to; the first is used when it is opened on its own. A server that is not listed
  // could be anybody's who makes up a launch link.
  servers: [new URL("/fhir", location.href).href],
  // Only what the app needs: people see this list when they are asked.
  standaloneScope: "launch/patient openid fhirUser offline_access patient/Patient.rs patient/Observation.rs",
  ehrScope: "launch openid fhirUser online_access patient/Patient.rs patient/Observation.rs",
};

// --- 1. Discovery: where the endpoints are -------------------------------------------------------------------------

async function discover(server) {
  const answer = await fetch(`${server}/.well-known/smart-configuration`, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Problem("noServer");
  const found = await answer.json();
  if (!(found.code_challenge_methods_supported ?? []).includes("S256")) throw new Problem("noServer");
  return found;
}

// --- 2. Authorization request: off to the hospital's login ---------------------------------------------------------

async function authorize(server, launch) {
  if (!SETTINGS.servers.includes(server)) throw new Problem("unknownServer");
  const configuration = await discover(server);
  const verifier = randomText();
  const state = randomText();
  // sessionStorage belongs to this tab: another tab's login does not get into the way.
  sessionStorage.setItem("login", JSON.stringify({ server, configuration, verifier, state }));
  const query = new URLSearchParams({
    response_type: "code",
    client_id: SETTINGS.clientId,
    redirect_uri: SETTINGS.redirectUri,
    scope: launch ? SETTINGS.ehrScope : SETTINGS.standaloneScope,
    state, // comes back unchanged: nobody else can finish this login
    aud: server, // whom the token is for
    code_challenge: await sha256(verifier),
    code_challenge_method: "S256",
  });
  if (launch) query.set("launch", launch);
  location.assign(`${configuration.authorization_endpoint}?${query}`);
}

function randomText() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function sha256(text) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// --- 3. Back from the login: the code becomes tokens ---------------------------------------------------------------

async function finishLogin(answer) {
  const login = JSON.parse(sessionStorage.getItem("login") ?? "null");
  sessionStorage.removeItem("login"); // one answer to one request
  history.replaceState(null, "", location.pathname); // the code does not stay in the address
  if (!login || answer.get("state") !== login.state) throw new Problem("notOurs");
  // RFC 9207: the answer comes from the server that was asked, and from no other one.
  if (answer.get("iss") !== login.configuration.issuer) throw new Problem("notOurs");
  if (answer.has("error")) throw new Problem(answer.get("error") === "access_denied" ? "denied" : "refused");
  const tokens = await askForTokens(login.configuration, {
    grant_type: "authorization_code",
    code: answer.get("code"),
    redirect_uri: SETTINGS.redirectUri,
    code_verifier: login.verifier,
  });
  return keep({ server: login.server, configuration: login.configuration }, tokens);
}

async function askForTokens(configuration, parameters) {
  const answer = await fetch(configuration.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({ ...parameters, client_id: SETTINGS.clientId }),
  });
  if (!answer.ok) throw new Problem("refused");
  return answer.json();
}

// Tokens are kept for this tab only. A script that gets into this page could read them there: let none in (CSP).
function keep(session, tokens) {
  const expiresAt = Date.now() + tokens.expires_in * 1000;
  // An answer to a refresh may leave out what has not changed.
  const kept = { ...session, ...tokens, expiresAt };
  sessionStorage.setItem("session", JSON.stringify(kept));
  return kept;
}

// --- 4. Refresh and revocation -------------------------------------------------------------------------------------

// One at a time: a refresh token that is used twice ends the access (RFC 9700, 4.14.2), and two requests can be told at
// once that the access token is over.
let refreshing = null;

function refresh() {
  refreshing ??= renew(current).finally(() => (refreshing = null));
  return refreshing;
}

async function renew(session) {
  try {
    // The refresh token changes at every use; the old one is worth nothing from then on.
    const tokens = await askForTokens(session.configuration, {
      grant_type: "refresh_token",
      refresh_token: session.refresh_token,
    });
    current = keep(session, tokens);
  } catch (error) {
    sessionStorage.removeItem("session");
    throw error;
  }
}

async function revoke() {
  await refreshing?.catch(() => {}); // its tokens would outlive the ones that are revoked here
  const session = current;
  if (!session) return;
  current = null;
  latest = null;
  sessionStorage.removeItem("session");
  await fetch(session.configuration.revocation_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      token: session.refresh_token ?? session.access_token,
      client_id: SETTINGS.clientId,
    }),
  });
}

// --- 5. FHIR -------------------------------------------------------------------------------------------------------

async function fhir(path) {
  const get = (session) =>
    fetch(`${session.server}/${path}`, {
      headers: { Accept: "application/fhir+json", Authorization: `Bearer ${session.access_token}` },
    });
  const before = current;
  let answer = await get(before);
  if (answer.status === 401 && current?.refresh_token) {
    // Another request may have been here first.
    if (current === before) await refresh();
    if (current) answer = await get(current);
  }
  if (answer.status === 401) throw new Problem("ended");
  if (!answer.ok) throw new Problem("noData");
  return answer.json();
}

let latest = null;

async function showRecord() {
  const asked = (latest = Symbol("asked"));
  // Meanwhile the access may be given up, or the page asked again: the answer is for nobody then.
  const old = () => asked !== latest;
  try {
    const record = await readRecord();
    if (!old()) showOn(record);
  } catch (error) {
    if (!old()) throw error;
  }
}

async function readRecord() {
  // Without a patient there is nothing to show: the person has not chosen one, or took the scope away.
  if (!current.patient) throw new Problem("noPatient");
  const [patient, observations] = await Promise.all([
    fhir(`Patient/${encodeURIComponent(current.patient)}`),
    fhir(`Observation?patient=${encodeURIComponent(current.patient)}&_sort=-date&_count=20`),
  ]);
  return { patient, observations };
}

function showOn({ patient, observations }) {
  element("name").textContent = nameOf(patient);
  element("facts").textContent = [patient.birthDate, text(`gender-${patient.gender ?? "unknown"}`)].filter(Boolean).join(" · ");
  // need_patient_banner false: whoever embeds this app shows already whose record it is.
  element("banner").hidden = current.need_patient_banner === false;
  element("user").textContent = claims(current.id_token)?.fhirUser?.split("/").slice(-2).join("/") ?? "";
  const rows = (observations.entry ?? []).map((entry) => entry.resource).filter((one) => one.resourceType === "Observation");
  element("observations").replaceChildren(...rows.map(rowOf));
  element("none").hidden = rows.length > 0;
  element("scopes").replaceChildren(...current.scope.split(" ").map((scope) => make("li", make("code", scope))));
  element("refresh").hidden = !current.refresh_token;
  showExpiry();
  show("record");
}

function nameOf(patient) {
  const name = patient.name?.find((one) => one.use === "official") ?? patient.name?.[0];
  return name?.text ?? [name?.family, ...(name?.given ?? [])].filter(Boolean).join(" ");
}

function rowOf(observation) {
  const at = observation.effectiveDateTime ?? observation.effectivePeriod?.start ?? observation.issued;
  const row = make("tr", make("th", conceptOf(observation.code)), make("td", valueOf(observation)), make("td", at ? dateOf(at) : ""));
  row.firstChild.scope = "row";
  return row;
}

function valueOf(of) {
  if (of.valueQuantity) return `${of.valueQuantity.value ?? ""} ${of.valueQuantity.unit ?? of.valueQuantity.code ?? ""}`;
  if (of.valueCodeableConcept) return conceptOf(of.valueCodeableConcept);
  if (of.component) return of.component.map((part) => `${conceptOf(part.code)}: ${valueOf(part)}`).join("; ");
  return String(of.valueString ?? of.valueInteger ?? of.valueBoolean ?? of.valueDateTime ?? "");
}

function conceptOf(concept) {
  return concept?.text ?? concept?.coding?.find((one) => one.display)?.display ?? concept?.coding?.[0]?.code ?? "";
}

function dateOf(at) {
  // A date without a time is a day, whatever the time zone.
  return at.length <= 10 ? at : new Date(at).toLocaleString(language === "zh" ? "zh-CN" : "en-GB");
}

// The id_token came straight from the token endpoint over TLS, so its signature need not be checked here (OpenID
// Connect Core 3.1.3.7). An app that passes it on to a server of its own has to check it there.
function claims(idToken) {
  if (!idToken) return null;
  const bytes = Uint8Array.from(atob(idToken.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// --- 6. The page ---------------------------------------------------------------------------------------------------

class Problem extends Error {
  constructor(key) {
    super(key);
    this.key = key;
  }
}

const TEXTS = {
  title: ["SMART 示例应用", "SMART sample app"],
  other: ["English", "中文"],
  welcome: ["查看最近的检查结果", "See the latest results"],
  explain: [
    "本应用会请您在医院登录，并由您决定允许它查看哪些内容。",
    "This app asks you to log in at the hospital, where you decide what it may see.",
  ],
  connect: ["连接医院", "Connect to the hospital"],
  server: ["FHIR 服务器：", "FHIR server:"],
  busy: ["请稍候……", "One moment…"],
  user: ["登录身份：", "Logged in:"],
  observations: ["最近的观察结果", "Latest observations"],
  what: ["项目", "What"],
  value: ["结果", "Value"],
  when: ["时间", "When"],
  none: ["没有结果，或未授权查看。", "There are none, or none that this app may see."],
  access: ["访问授权", "Access"],
  expires: ["访问令牌有效期至", "The access token is valid until"],
  refresh: ["刷新令牌", "Refresh the token"],
  revoke: ["取消授权并退出", "Revoke and leave"],
  granted: ["已授权的范围 (scope)", "Granted scopes"],
  "gender-male": ["男", "male"],
  "gender-female": ["女", "female"],
  "gender-other": ["其他", "other"],
  "gender-unknown": ["", ""],
  noServer: ["无法连接到该服务器，或它不支持 SMART。", "This server cannot be reached, or does not speak SMART."],
  unknownServer: ["本应用未配置此服务器。", "This app is not set up for this server."],
  notOurs: ["这次登录不是由本页面发起的，请重新开始。", "This login was not started here. Please begin again."],
  denied: ["您没有同意授权。", "You did not allow it."],
  refused: ["服务器拒绝了请求，请重新开始。", "The server refused. Please begin again."],
  ended: ["访问已结束，请重新连接。", "The access has ended. Please connect again."],
  noData: ["服务器没有返回数据。", "The server did not send the data."],
  noPatient: ["没有选择就诊人。", "No patient was chosen."],
  failed: ["出错了，请重新开始。", "Something went wrong. Please begin again."],
};

let current = JSON.parse(sessionStorage.getItem("session") ?? "null");
let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

const element = (id) => document.getElementById(id);
const text = (key) => (TEXTS[key] ?? TEXTS.failed)[language === "zh" ? 0 : 1];

function make(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content); // text, never HTML: what a server sends is not ours
  return made;
}

function show(id) {
  for (const each of ["welcome", "busy", "record"]) if (element(each)) element(each).hidden = each !== id;
}

function showExpiry() {
  element("expires").textContent = new Date(current.expiresAt).toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB");
}

function speak() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = text("title");
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = text(each.dataset.text);
  element("language").textContent = text("other");
  element("language").lang = language === "zh" ? "en" : "zh-Hans";
  if (problem) element("problem").textContent = text(problem);
}

let problem = null;

async function attempt(work) {
  problem = null;
  element("problem").hidden = true;
  try {
    await work();
  } catch (error) {
    problem = error instanceof Problem ? error.key : "failed";
    if (!(error instanceof Problem)) console.error(error);
    element("problem").textContent = text(problem);
    element("problem").hidden = false;
    show("welcome");
  }
}

element("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  speak();
  if (element("record") && !element("record").hidden) attempt(showRecord);
});
speak();

const query = new URLSearchParams(location.search);
if (document.body.dataset.page === "launch") {
  // EHR launch: the hospital's own page opened this one, with `iss` (the FHIR server) and `launch` (what is open there).
  await attempt(() => authorize(query.get("iss"), query.get("launch")));
} else {
  element("server").textContent = SETTINGS.servers[0];
  element("connect").addEventListener("click", () => attempt(() => authorize(SETTINGS.servers[0], null)));
  element("refresh").addEventListener("click", () =>
    attempt(async () => {
      await refresh();
      showExpiry();
    }),
  );
  element("revoke").addEventListener("click", () =>
    attempt(async () => {
      await revoke();
      show("welcome");
    }),
  );
  if (query.has("state")) {
    show("busy");
    await attempt(async () => {
      current = await finishLogin(query);
      await showRecord();
    });
  } else if (current) {
    show("busy");
    await attempt(showRecord);
  } else {
    show("welcome");
  }
}
