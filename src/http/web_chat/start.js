// Starts Converse.js, which the script before this one has put into `window.converse`. What differs from one server to the
// next comes from settings.json; what is here holds for all of them.

try {
    await start();
} catch (error) {
    document.body.textContent = 'The chat cannot be started. Is the connection to the server gone, or is a file blocked?';
    throw error;
}

async function start() {
    const response = await fetch('/web/settings.json', { cache: 'no-store' });
    if (!response.ok) throw new Error(`The server gives no settings: ${response.status}`);
    const { title, fetched_emoji: fetchedEmoji, settings } = await response.json();
    // Verified here where the files are not this server's own: Converse.js fetches them without a hash.
    const emoji = fetchedEmoji && await (await fetch(fetchedEmoji.url, { integrity: fetchedEmoji.integrity })).json();
    addPlugin(title, emoji);
    await initialize(settings);
}

function addPlugin(title, emoji) {
    /** In the place of Converse.js's own name on the page where one logs in. */
    class Brand extends HTMLElement {
        connectedCallback() {
            this.textContent = title;
        }
    }

    /** In the place of links that lead elsewhere; each name needs a class of its own. */
    const nothing = () => class extends HTMLElement {};

    window.converse.plugins.add('moltis', {
        initialize() {
            const { _converse } = this;
            const { api } = _converse;
            api.listen.on('setUserJID', () => keepResource(_converse));
            // It reads these bookmarks (XEP-0402), and asks to be told of changes of the older ones alone.
            api.listen.on('addClientFeatures', () => api.disco.own.features.add('urn:xmpp:bookmarks:1+notify'));
            api.elements.define('converse-brand-logo', Brand);
            api.elements.define('converse-footer', nothing());
            api.elements.define('converse-controlbox-navbar', nothing());
            if (emoji) api.listen.on('loadEmojis', () => emoji);
        },
    });
}

/**
 * One resource for as long as the tab is there. Converse.js invents another one with each login, also where it then resumes
 * the session of the one before (XEP-0198), and the server ends a stream that speaks for an address not its own.
 */
function keepResource(_converse) {
    const { session } = _converse;
    const resource = session.get('kept_resource') ?? session.get('resource');
    const jid = `${session.get('bare_jid')}/${resource}`;
    session.save({ jid, resource, kept_resource: resource });
    Object.assign(_converse, { jid, resource });
    _converse.api.connection.get().jid = jid;
}

function initialize(settings) {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    return window.converse.initialize({
        view_mode: 'fullscreen',
        theme: 'classic',
        dark_theme: 'dracula',
        authentication: 'login',
        websocket_url: `${scheme}//${location.host}/xmpp-websocket`,
        whitelisted_plugins: ['moltis'],
        // OMEMO comes under the GPL and as WebAssembly, which the content security policy would have to allow; the bot does
        // not read it either. BOSH, push and the login at other servers are not offered here.
        blacklisted_plugins: ['converse-omemo', 'converse-omemo-views', 'converse-bosh', 'converse-push', 'converse-register'],
        message_archiving: 'always',
        play_sounds: false,
        notification_icon: '/web/icon.svg',
        allow_adhoc_commands: true,

        // Nothing leaves this origin. The content security policy forbids it too, but would leave broken pictures behind.
        discover_connection_methods: false,
        embed_3rd_party_media_players: false,
        render_media: [location.hostname],
        use_system_emojis: true,
        // Without one the form for entering a room lacks the field for its address. Ours does not search, and says so.
        muc_search_service: settings.muc_domain ?? '',
        muc_nickname_from_jid: true,
        xmpp_providers_url: '',
        autocomplete_providers_url: '',
        visible_toolbar_buttons: { call: false, clear: true, emoji: true, location: false, spoiler: false },
        ...settings,
    });
}
