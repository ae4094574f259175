"""The basics of the instruction-override rules in German, French, Spanish, Italian, Portuguese, Dutch and Chinese.

Folded text: no accents, so `précédentes` is written `precedentes` and `ü` is `u`.
"""

from __future__ import annotations

import re

from agentkit.shields.override_rules import GAP4, GAP8, Category, Rule, Scope
from agentkit.shields.override_rules_untrusted import Search

_O, _J, _L, _F = Category.OVERRIDE, Category.JAILBREAK, Category.PROMPT_LEAK, Category.ROLE_FORGERY

_ORDERS = (
    r"(?:anweisung\w*|instruktion\w*|vorgaben|regeln|richtlinien|befehle\w*|instruction\w*|consignes?|regles|directives|"
    r"instruccion\w*|indicacion\w*|ordenes|reglas|directrices|istruzion\w*|regole|direttive|linee guida|"
    r"instrucoes|instrucao|regras|diretrizes|ordens|instructies|opdrachten|richtlijnen|prompts?)\b"
)
_EARLIER = (
    r"(?:vorherig\w*|vorig\w*|bisherig\w*|obig\w*|fruher\w*|vorangegangen\w*|vorangehend\w*|zuvor|"
    r"precedent\w*|anterieur\w*|ci-dessus|recues|anterior\w*|previ[ao]s?|arriba|acima|sopra|eerdere?|voorgaande|"
    r"bovenstaande|all\w*|samtliche\w*|deine|toutes?|tous|tes|vos|todas?|todos|tus|sus|tutt[ei]|le tue|suas|mijn|je)\b"
)
_SYSTEM_PROMPT = (
    r"(?:system-?\s?prompt\w*|system-?(?:anweisung\w*|nachricht\w*)|systeemprompt|prompt (?:de |del |di |do |du )?"
    r"(?:systeme?|sistema)|(?:instructions?|consignes?) (?:systeme|initiales?|du systeme|cachees)|invite systeme|"
    r"instrucciones (?:del sistema|de sistema|iniciales|ocultas)|istruzioni (?:di sistema|del sistema|iniziali)|"
    r"instrucoes (?:do sistema|de sistema|iniciais)|mensaje del sistema|messaggio di sistema|mensagem do sistema)\b"
)
_LIMITS = (
    r"(?:einschra?e?nkung\w*|beschra?e?nkung\w*|regeln|filter|grenzen|richtlinien|restriction\w*|filtres?|limites?|regles|"
    r"restriccion\w*|filtros?|limitacion\w*|reglas|censura|restrizion\w*|filtri|limiti|regole|restricoes|regras|"
    r"beperkingen|regels)\b"
)

LANGUAGE_RULES: tuple[Rule, ...] = (
    Rule(name="ignore_earlier_languages", category=_O, weight=6.0,
         heads="ignoriere ignorieren ignoriert missachte vergiss vergessen verwirf uberschreibe ueberschreibe "
               "ignore ignorez ignorer oublie oubliez oublier neglige negligez "
               "ignora ignore ignoren ignorar ignorad olvida olvide olviden olvidar desestima descarta omite "
               "ignorate ignorare dimentica dimenticate trascura tralascia "
               "esqueca esquecer desconsidere desconsidera negeer vergeet",
         tail=rf"{GAP4}(?:{_EARLIER}{GAP4}{_ORDERS}|{_ORDERS}(?:\W++\w++){{0,2}}?\W++{_EARLIER})"),
    Rule(name="forget_all_languages", category=_O, weight=5.0,
         heads="vergiss oublie oubliez olvida olvide dimentica esqueca vergeet ignoriere ignora ignorez",
         tail=r" (?:bitte )?(?:alles|tout|todo|tutto|tudo)(?: ce que|,? was| lo que| quello che| cio che| o que| wat)"),
    Rule(name="not_heed_languages", category=_O, weight=4.5,
         heads="beachte befolge befolgst tiens tenez respecte suis sigas tengas seguire siga volg",
         tail=rf"{GAP4}(?:nicht|keine|pas|plus|compte|cuenta|non|nao|niet|geen){GAP4}{_ORDERS}"),
    Rule(name="reveal_prompt_languages", category=_L, weight=5.0,
         heads="zeige zeig verrate verrat nenne gib drucke offenbare wiederhole enthulle schreibe montre montrez revele "
               "revelez affiche affichez donne repete dis divulgue muestra muestrame revela revelame dime imprime repite "
               "muestre revele mostra mostrami rivela rivelami stampa ripeti dimmi mostre diga repita toon onthul quels "
               "quelles cuales quali welche was",
         tail=rf"{GAP8}{_SYSTEM_PROMPT}"),
    Rule(name="your_prompt_languages", category=_L, weight=4.0,
         heads="dein deine deinen deiner ton votre tes vos tu tus su il tuo tue seu sua suas teu jouw je",
         tail=rf"(?:\W++\w++){{0,1}}?\W++{_SYSTEM_PROMPT}"),
    Rule(name="verbatim_languages", category=_L, weight=4.5,
         heads="anweisungen instruktionen consignes instructions instrucciones istruzioni instrucoes instructies",
         tail=rf"{GAP4}(?:wort ?wortlich|wortwortlich|wort fur wort|mot pour mot|mot a mot|textuellement|palabra por palabra|"
              r"textualmente|parola per parola|palavra por palavra|woord voor woord)"),
    Rule(name="no_limits_languages", category=_J, weight=3.0,
         heads="ohne keine keinen keinerlei sans aucune aucun sin ninguna ningun senza nessuna nessun sem nenhuma zonder",
         tail=rf"(?:\W++\w++){{0,2}}?\W++{_LIMITS}"),
    Rule(name="you_without_limits_languages", category=_J, weight=2.5,
         heads="du bist hast antworte antworten tu vous reponds repondre es eres estas responde responder sei puoi rispondi "
               "rispondere voce je bent antwoord ki ia",
         tail=rf"{GAP8}(?:ohne|keine\w*|sans|aucune?|sin|ningun\w*|senza|nessun\w*|sem|nenhuma?|zonder|geen)"
              rf"(?:\W++\w++){{0,2}}?\W++{_LIMITS}"),
    Rule(name="you_are_now_languages", category=_J, weight=2.5,
         heads="du tu vous ahora ora agora adesso je ab desde",
         tail=r" (?:bist (?:jetzt|nun|ab jetzt|ab sofort)|es (?:maintenant|desormais)|etes (?:maintenant|desormais)|eres|"
              r"estas en|sei|voce e|bent (?:nu|vanaf nu)|jetzt(?: an)?(?= (?:bist|hast|wirst|antwort\w*|ignorier\w*))|ahora eres)\b"),
    Rule(name="unrestricted_languages", category=_J, weight=3.0,
         heads="uneingeschrankt uneingeschraenkt unzensiert ungefiltert illimite non sinlimites irrestricto desbloqueado "
               "sansfiltre", tail=r"(?: censure| filtre| bride)?\b(?=.{0,80}(?:richtlinien|regeln|regles|ki|ia|ai|befolg))"),
    Rule(name="mode_languages", category=_J, weight=4.0, heads="entwicklermodus developpeur desarrollador sviluppatore "
         "desenvolvedor modo mode modalita", tail=r"(?: (?:desarrollador|sviluppatore|desenvolvedor|developpeur|dios|dan))?"
         rf"{GAP4}(?:aktiv\w*|ohne|sans|active|activado|sin|senza|attiv\w*|sem|ativado)\b"),
    Rule(name="new_instructions_languages", category=_O, weight=5.0,
         heads="neue nouvelles nouvelle nuevas nuove novas nieuwe",
         tail=r" (?:anweisung\w*|instruktionen|instructions?|consignes?|instrucciones|istruzioni|instrucoes|instructies)\s{0,2}:"),
    Rule(name="every_reply_languages", category=Category.INDIRECT, weight=3.0, scope=Scope.UNTRUSTED,
         heads="muss soll doit doivent debe deben deve devono devem moet",
         tail=rf"{GAP8}(?:jeder antwort|deiner antwort|toute reponse|chaque reponse|ta reponse|cualquier respuesta|"
              r"cada respuesta|tu respuesta|ogni risposta|tua risposta|toda resposta|cada resposta|elk antwoord)"),
    Rule(name="from_now_on_languages", category=_O, weight=1.5, heads="ab partir desde d'ora ora",
         tail=r"(?: (?:jetzt|sofort|nun|de maintenant|de ahora|de agora|ahora|in poi))\b"),
    Rule(name="exempt_reasoning_languages", category=_J, weight=3.5,
         heads="sicherheitsrichtlinien sicherheitsregeln regles reglas regole guida regras securite seguridad sicurezza",
         tail=rf"{GAP4}(?:nicht|ne|no|non|nao)(?:\W++\w++){{0,1}}?\W++(?:gelten|s'appliquent|s|appliquent|aplican|valgono|se "
              r"aplicam)\b"),
)

LANGUAGE_SEARCHES: tuple[Search, ...] = (
    Search(name="ignore_earlier_zh", category=_O, weight=6.0,
           pattern=re.compile(r"(?:忽略|无视|無視|忘记|忘記|不要理会|不要遵守|不要遵循).{0,12}(?:之前|以上|前面|先前|上面|所有|全部|一切|你的|原来|系统|系統)"
                              r".{0,10}(?:指令|指示|提示|说明|說明|规则|規則|要求|内容|命令|设定)")),
    Search(name="reveal_prompt_zh", category=_L, weight=5.5,
           pattern=re.compile(r"(?:显示|顯示|透露|告诉|告訴|输出|輸出|打印|泄露|公开|展示|重复|說出|说出|给我看).{0,12}"
                              r"(?:系统提示|系統提示|系统指令|提示词|提示詞|初始指令|隐藏指令|系统消息)")),
    Search(name="no_limits_zh", category=_J, weight=5.0,
           pattern=re.compile(r"你(?:现在|現在|从现在起|將|将).{0,16}(?:没有|沒有|不受|无|無).{0,6}(?:限制|约束|約束|规则|審查|审查|道德)")),
    Search(name="developer_mode_zh", category=_J, weight=4.0, pattern=re.compile(r"(?:进入|進入|启用|开启|你现在处于).{0,6}(?:开发者|開發者|越狱|越獄)模式")),
    Search(name="system_note_languages", category=_F, weight=3.5,
           pattern=re.compile(r"(?:systemhinweis|systemnachricht|note systeme|message systeme|nota del sistema|mensaje del sistema|"
                              r"nota di sistema|messaggio di sistema|nota do sistema|mensagem do sistema)[ \t]{0,3}:")),
)
