"""Connecting a server under each contract, as its clients do. Each class is one server registered in Hawser, with

begin()       the URL that the user opens to consent
state()       one word for how that stands: `connected`, `denied` or `failed` is what the contract then says
delete()      removes the server and returns the receipt's id
"""

import itertools
import urllib.parse

numbers = itertools.count(1)

MCP, LANGSMITH, KAMBRIUM = "/api/svc/v1/mcp", "/v1/deepagents", "/api/v1/mcp-servers"
ADMIN = {"subjectId": "admin", "subjectType": "user"}


class Connection:
    def __init__(self, hawser, site, oauth=None, name=None):
        self.hawser, self.site = hawser, site
        self.name = name or f"{site.name}-{self.contract}-{next(numbers)}"
        self.register(oauth or {})

    def mcp_id(self):
        """What the server is called under TrueFoundry, whichever contract made it."""
        query = urllib.parse.urlencode({"name": self.name})
        (found,) = self.hawser.call(200, "GET", f"{MCP}?{query}").json["data"]
        return found["id"]

    def status(self, subject="admin"):
        """The TrueFoundry status of anyone on the server."""
        asked = f"subjectId={subject}&subjectType=user"
        return self.hawser.call(200, "GET", f"{MCP}/{self.mcp_id()}/auth/status?{asked}").json

    def disconnect(self):
        """Ends the administrator's grant, and returns the receipt's id."""
        body = {"authSource": "oauth", **ADMIN}
        return self.hawser.call(200, "DELETE", f"{MCP}/{self.mcp_id()}/auth", body).json["data"]["receiptId"]


class TrueFoundry(Connection):
    contract = "truefoundry"
    connected, denied, failed = "authenticated", "consent_denied", "never_connected"
    # Where the browser goes in the end; None for a page of Hawser's.
    return_to = None

    def register(self, oauth):
        manifest = {
            "type": "mcp-server/remote", "name": self.name, "description": "Interoperability test",
            "url": self.site.resource, "auth_data": {"type": "oauth2", **oauth},
        }
        self.id = self.hawser.call(200, "PUT", MCP, {"manifest": manifest}).json["data"]["id"]

    def begin(self, token=None):
        query = "?" + urllib.parse.urlencode({"redirectURL": self.return_to}) if self.return_to else ""
        answer = self.hawser.call(200, "GET", f"{MCP}/{self.id}/authorize{query}", token=token).json
        assert answer["status"] == "authentication_required", answer
        return answer["authorization_endpoint"]

    def state(self):
        status = self.status()
        return status["status"] if status["status"] == "authenticated" else status["reason"]

    def delete(self):
        return self.hawser.call(200, "DELETE", f"{MCP}/{self.id}").headers["Hawser-Receipt"]


class LangSmith(Connection):
    contract = "langsmith"
    connected, denied, failed = "COMPLETED", "CONNECTION_REQUIRED", "CONNECTION_REQUIRED"

    def register(self, _oauth):
        body = {
            "name": self.name, "url": self.site.resource, "auth_type": "oauth", "oauth_mode": "per_user_dynamic_client",
        }
        self.id = self.hawser.call(201, "POST", f"{LANGSMITH}/mcp-servers", body).json["id"]

    def provider(self):
        answer = self.hawser.call(200, "POST", f"{LANGSMITH}/mcp-servers/{self.id}/oauth-provider", {})
        return answer.json["oauth_provider_id"]

    def session(self, expected, strategy):
        body = {"provider_id": self.provider(), "scopes": [], "strategy": strategy}
        return self.hawser.call(expected, "POST", f"{LANGSMITH}/auth-sessions", body).json

    def begin(self):
        session = self.session(201, "CREATE")
        assert session["status"] == "PENDING", session
        self.session_id = session["id"]
        return session["verification_url"]

    def state(self):
        path = f"{LANGSMITH}/auth-sessions/{self.session_id}?wait_seconds=5"
        answer = self.hawser.call(200, "GET", path).json
        assert answer["id"] == self.session_id, answer
        return answer["status"]

    def delete(self):
        return self.hawser.call(204, "DELETE", f"{LANGSMITH}/mcp-servers/{self.id}").headers["Hawser-Receipt"]


class Kambrium(Connection):
    contract = "kambrium"
    connected, denied, failed = "active", "failed", "failed"

    def register(self, _oauth):
        body = {"mcp_server": self.site.name, "access_type": "write", "auth_method": "oauth"}
        made = self.hawser.call(201, "POST", KAMBRIUM, body).json["data"]
        assert made["oauth_status"] == "pending", made
        self.id, self.url = made["id"], made["authorization_url"]
        self.name = f"{self.site.name}-{self.id}"

    def begin(self):
        # There is one URL, in the answer to the registration, and no way to ask for another.
        return self.url

    def state(self):
        return self.hawser.call(200, "GET", f"{KAMBRIUM}/{self.id}").json["data"]["oauth_status"]

    def delete(self):
        return self.hawser.call(200, "DELETE", f"{KAMBRIUM}/{self.id}").headers["Hawser-Receipt"]


ALL = [TrueFoundry, LangSmith, Kambrium]
