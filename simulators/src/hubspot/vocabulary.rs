//! Words that seeded records are made of: several scripts, accents, quotes, emoji, right-to-left text.
//! Invented combinations; any likeness to a person or company is chance.

pub(super) const FIRST_NAMES: &[&str] = &[
    "Ada",
    "Zoë",
    "Łukasz",
    "Søren",
    "María José",
    "Nguyễn",
    "Chloé",
    "Mehmet",
    "Ingrid",
    "Olga",
    "Pavel",
    "Aoife",
    "Björn",
    "Fatima",
    "Yuki",
    "Chen",
    "Priya",
    "Kwame",
    "Sinéad",
    "Iñigo",
    "Élodie",
    "Jürgen",
    "Matěj",
    "Ana",
    "李娜",
    "محمد",
    "Ольга",
    "さくら",
    "지훈",
    "Δημήτρης",
    "Jean-Luc",
    "Sam",
    "Alex",
    "Robin",
    "Noor",
    "T.",
    "X Æ",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "Lovelace",
    "O'Neill",
    "Müller",
    "Nowak",
    "Åkesson",
    "García Márquez",
    "van der Berg",
    "Yılmaz",
    "Dvořák",
    "Kowalski",
    "Ångström",
    "Nakamura",
    "王",
    "الحسن",
    "Иванова",
    "D'Angelo",
    "St. John",
    "Smith-Jones",
    "Okafor",
    "Ferreira",
    "Đorđević",
    "Þórsson",
    "Ní Bhriain",
    "Kim",
    "Patel",
    "Haddad",
    "Weiß",
    "Çelik",
    "Le",
    "Papadopoulos",
];

pub(super) const COMPANY_STEMS: &[&str] = &[
    "Nordlicht",
    "Blue Harbour",
    "Acacia",
    "Quartz & Sons",
    "Ceiba",
    "Fjord",
    "Lumen",
    "Osprey",
    "Café Métropole",
    "Tundra",
    "Saffron",
    "Kestrel",
    "Ørsund",
    "Baobab",
    "Żubr",
    "Monsoon",
    "Gletscher",
    "Tamarind",
    "Halcyon",
    "\"The\" Orchard",
    "東雲",
    "Пульсар",
    "Nimbus",
    "Petrichor",
    "Zephyr",
    "Marigold",
    "Basalt",
    "Wren",
    "Copper Kettle",
];

pub(super) const COMPANY_TRADES: &[&str] = &[
    "Logistics",
    "Software",
    "Foods",
    "Energy",
    "Textiles",
    "Robotics",
    "Bank",
    "Clinics",
    "Freight",
    "Analytics",
    "Maschinenbau",
    "Seguros",
    "Télécom",
    "Ceramics",
    "Optik",
    "Education",
    "Games 🎮",
    "Media",
];

pub(super) const COMPANY_FORMS: &[&str] =
    &["Ltd", "GmbH", "Inc.", "S.A.", "AB", "株式会社", "LLC", "d.o.o.", "", "", "PLC"];

pub(super) const INDUSTRIES: &[&str] = &[
    "COMPUTER_SOFTWARE",
    "LOGISTICS_AND_SUPPLY_CHAIN",
    "FOOD_PRODUCTION",
    "BANKING",
    "TEXTILES",
    "HOSPITAL_HEALTH_CARE",
    "EDUCATION_MANAGEMENT",
];

pub(super) const TOP_LEVEL_DOMAINS: &[&str] = &["com", "io", "de", "co.uk", "example", "se", "jp", "org"];

pub(super) const CITIES: &[(&str, &str, &str)] = &[
    ("Berlin", "BE", "Germany"),
    ("São Paulo", "SP", "Brazil"),
    ("Zürich", "", "Switzerland"),
    ("Austin", "Texas", "United States"),
    ("Kraków", "Małopolska", "Poland"),
    ("大阪", "大阪府", "Japan"),
    ("Reykjavík", "", "Iceland"),
    ("Lagos", "Lagos", "Nigeria"),
    ("Bengaluru", "KA", "India"),
];

pub(super) const STREETS: &[&str] =
    &["Hauptstraße", "High Street", "Rue de l'Église", "Calle Mayor", "Elm St.\nSuite", "Ulica Długa", "Storgatan"];

pub(super) const JOB_TITLES: &[&str] = &[
    "CEO",
    "Head of Sales",
    "Geschäftsführerin",
    "Ingénieure",
    "VP, R&D",
    "Buyer",
    "IT <admin>",
    "Student",
    "CFO",
    "Платформенный инженер",
    "Owner/Operator",
];

pub(super) const LIFECYCLE_STAGES: &[&str] =
    &["subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist"];

pub(super) const LEAD_STATUSES: &[&str] = &["NEW", "OPEN", "IN_PROGRESS", "UNQUALIFIED", "CONNECTED"];

pub(super) const ORIGINS: &[&str] = &["ORGANIC_SEARCH", "PAID_SEARCH", "REFERRALS", "OFFLINE", "DIRECT_TRAFFIC"];

pub(super) const DEAL_TOPICS: &[&str] =
    &["renewal", "expansion", "pilot", "new logo", "Q4 true-up", "migration → cloud", "licence ×2", "RFP (2nd round)"];

pub(super) const SUBJECTS: &[&str] = &[
    "Follow-up",
    "Re: Re: pricing",
    "Intro call",
    "Kick-off 🚀",
    "Vertrag prüfen",
    "Demo, part 2",
    "¿Llamada?",
    "no subject",
    "Fwd: contract",
    "Check \"terms\"",
    "次の打ち合わせ",
    "Renewal; risk?",
];

pub(super) const SENTENCES: &[&str] = &[
    "Spoke about the budget for next year.",
    "Sie möchten ein Angebot über 3 Jahre.",
    "Waiting for legal — again.",
    "Price is fine, timing is not.",
    "<p>Asked for a <b>security</b> review &amp; SSO.</p>",
    "Tab\tseparated\tvalues, and a \"quote\".",
    "次回は金曜日です。",
    "Will call back on Monday 👍🏽.",
    "C:\\temp\\offer.docx was attached.",
];
