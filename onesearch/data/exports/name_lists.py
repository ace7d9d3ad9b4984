"""The names that shops give to columns and to kinds of events, by field of the market.

Sources: the exports of Shopify, WooCommerce and Magento, the product feeds of Google and Facebook, public event logs, and plain words
in ten languages. A name that occurs under two fields belongs to the first.
"""

from __future__ import annotations

PRODUCT_NAMES: dict[str, str] = {
    "item_id": (
        "item_id product_id id sku item_sku product_sku asin handle code product_code item_code "
        "article_id article_number article_no articleno artikelnummer artikel_nr artikelnr art_nr produktnummer "
        "produkt_id bestellnummer content_id pid iid itemid goods_id spu_id sku_id entity_id uuid reference ref "
        "id_produit reference_produit referencia id_producto codice id_prodotto codigo artikelcode productnummer "
        "variant_sku variant_id 商品id 商品编号 商品編號 商品编码 货号 宝贝id 商品コード 商品番号 品番 상품코드 상품번호 상품id артикул "
        "код_товара id_товара"
    ),
    "title": (
        "title name product_name product_title item_name item_title display_name productname label bezeichnung "
        "artikelbezeichnung artikelname produktname produktbezeichnung titel nom designation nom_produit libelle "
        "titre nombre titulo nombre_producto nome titolo nome_prodotto nome_produto naam productnaam nazwa название "
        "наименование товар 标题 商品名称 商品名稱 商品名 名称 名稱 商品标题 宝贝标题 タイトル 상품명 제품명 이름 "
        "ชื่อ ชื่อสินค้า"
    ),
    "description": (
        "description long_description full_description product_description body_html body body_(html) content "
        "post_content item_description text details product_details beschreibung produktbeschreibung "
        "artikelbeschreibung langtext descripcion descrizione descricao omschrijving opis описание 描述 商品描述 "
        "详情 商品説明 説明 상품설명 설명 คำอธิบาย รายละเอียด"
    ),
    "short_description": (
        "short_description post_excerpt excerpt summary subtitle kurzbeschreibung kurztext description_courte "
        "resumen bullet_points bullets highlights features_text 副标题 卖点"
    ),
    "brand": (
        "brand brand_name product_brand vendor manufacturer manufacturer_name maker marke hersteller herstellername "
        "marque fabricant marca fabricante produttore merk marka brands pa_brand бренд производитель 品牌 品牌名称 "
        "ブランド メーカー 브랜드 제조사 ยี่ห้อ แบรนด์"
    ),
    "seller": (
        "seller seller_name shop shop_name store store_name merchant supplier verkaufer lieferant haendler 店铺 "
        "店铺名称 卖家 販売者 판매자"
    ),
    "categories": (
        "categories category category_name category_path category_names product_category product_categories "
        "product_type producttype type google_product_category fb_product_category category_tree categories_path "
        "breadcrumb breadcrumbs taxonomy department main_category sub_category subcategory categoryname "
        "item_category kategorie kategorien produktkategorie warengruppe kategoriepfad categorie categories_produit "
        "rayon categoria categorias reparto categorieen kategoria категория 类目 类别 分类 商品分类 品类 類別 "
        "カテゴリ カテゴリー 카테고리 분류 หมวดหมู่ ประเภท collection_path product_group categories_name"
    ),
    "category_ids": ("category_id categories_id category_ids cat_id google_category_id categoryid 类目id category_code"),
    "tags": (
        "tags tag keywords keyword meta_keywords search_terms labels schlagworte schlagworter stichworte "
        "suchbegriffe mots_cles etiquettes etiquetas parole_chiave trefwoorden теги 标签 关键词 タグ 태그 แท็ก"
    ),
    "price": (
        "price regular_price sale_price variant_price price_min min_price current_price list_price unit_price retail_price "
        "product_price selling_price final_price pricerange_minvariantprice "
        "pricerangev2_minvariantprice price_eur price_usd price_gbp amount preis verkaufspreis vk_preis "
        "vk bruttopreis einzelpreis brutto prix prix_ttc prix_vente precio pvp prezzo preco prijs cena цена 价格 "
        "售价 单价 价錢 価格 値段 가격 판매가 ราคา"
    ),
    "url": (
        "url link product_url product_link item_url permalink page_url href canonical_url external_url url_key "
        "weblink produktlink artikel_url lien url_produit enlace ссылка 链接 商品链接 商品url 상품링크"
    ),
    "image": (
        "image images_large images_hi_res image_url image_link image_src "
        "imageurl img img_url picture picture_url photo photo_url thumbnail "
        "thumbnail_url main_image primary_image base_image small_image images images_src featured_image image_1 "
        "image1 bild bild_url bilder produktbild hauptbild image_produit imagen foto immagine afbeelding "
        "изображение 图片 主图 图片链接 画像 画像url 이미지 รูปภาพ"
    ),
    "ocr_text": "ocr_text ocr image_text",
    "group": ("item_group_id parent_id parent_sku parent parent_asin product_group_id variant_group master_id style_id"),
    "features": "features embedding vector",
    "shown_count": "shown_count impressions impression_count",
    "click_count": "click_count",
    "cart_count": "cart_count",
    "purchase_count": "purchase_count sales_count units_sold total_sales",
    "kind_of_row": "product_kind row_type",
    "published": (
        "published is_published status product_status post_status product_online active is_active enabled is_enabled "
        "visibility_in_catalog visible aktiv veroffentlicht publie actif publicado activo attivo 上架状态 状态 商品状态 ステータス"
    ),
    "option_names": (
        "option1_name option2_name option3_name options_name attributes_name attribute_1_name attribute_2_name "
        "attribute_3_name attribute_1_name_s"
    ),
    "option_values": (
        "option1_value option2_value option3_value options_values attributes_options attribute_1_value_s "
        "attribute_2_value_s attribute_3_value_s"
    ),
    "further_attributes": (
        "additional_attributes attributes attribute specs specifications_json product_attributes properties"
    ),
}
"""Field → names of columns of products, best first."""

ATTRIBUTE_NAMES: dict[str, str] = {
    "color": (
        "color colour colors colours color_name farbe farben couleur couleurs colore kleur kolor cor цвет 颜色 顏色 "
        "色 カラー 색상 สี pa_color"
    ),
    "material": (
        "material materials fabric composition werkstoff materiau matiere materiale materiaal материал 材质 面料 "
        "素材 소재 วัสดุ pa_material"
    ),
    "style": "style stil look style_name stijl стиль 风格 款式 スタイル 스타일",
    "function": ("function feature functionality funktion einsatzbereich usage use_case fonction funcion 功能 用途 機能 기능"),
    "location": (
        "location country_of_origin country origin made_in place herkunft herkunftsland ursprungsland pays origine "
        "pais 产地 原産国 원산지"
    ),
    "audience": (
        "audience gender age_group target_group target_audience age department_gender zielgruppe geschlecht genre "
        "sexe genero sesso geslacht 适用人群 适用性别 人群 性别 対象 性別 성별 เพศ sex"
    ),
    "scene": "scene occasion anlass occasione ocasion 场景 适用场景 シーン",
    "specifications": (
        "specifications specification specs size sizes groesse grosse size_name dimensions dimension weight volume "
        "capacity length width height diameter masse abmessungen gewicht taille talla taglia maat размер 规格 尺码 "
        "尺寸 容量 サイズ 사이즈 ขนาด pa_size shoe_size"
    ),
    "model": "model model_name model_number modell modele modelo modello mpn 型号 型號 モデル 型番 모델",
    "anchor": "anchor",
    "series": "series product_line line serie serien collection kollektion collezione coleccion 系列 シリーズ 시리즈",
    "marketing": "marketing marketing_text promotion badge label_text slogan",
    "season": "season saison jahreszeit temporada stagione seizoen сезон 季节 季節 시즌",
    "pattern": "pattern muster motif motiv patron fantasia print 图案 花纹 柄 패턴",
    "entity": "entity product_noun",
    "modifier": "modifier",
}
"""Attribute type → names of columns of products."""

LOG_NAMES: dict[str, str] = {
    "time": (
        "time timestamp event_time eventtime ts date datetime date_time created_at event_timestamp event_date "
        "occurred_at server_time client_time unix_time epoch time_stamp visit_time zeit zeitpunkt zeitstempel datum "
        "uhrzeit date_heure heure fecha hora data tijd czas время дата 时间 时间戳 日期 日時 時間 시간 일시 เวลา "
        "time_index order_date purchase_date timestamp_ms event_time_ms eventtimestamp"
    ),
    "time_of_day": "time_of_day clock_time",
    "user_id": (
        "user_id user uid userid visitor visitor_id visitorid customer_id customer customerid client_id clientid member_id "
        "account_id buyer_id user_pseudo_id user_token cookie_id cookie anonymous_id device_id profile_id kunde kunden_id "
        "kunden_nr kundennummer kundennr nutzer nutzer_id benutzer id_client utilisateur usuario cliente utente "
        "klant пользователь 用户 用户id 会员id 使用者 ユーザー ユーザーid 顧客id 회원 사용자 ผู้ใช้ reviewerid email customer_email"
    ),
    "session_id": (
        "session_id session sessionid user_session visit_id visitid idvisit visit ga_session_id sid sitzung sitzungs_id "
        "会话 会话id セッション 세션"
    ),
    "query": (
        "query search_query search_term search_terms searchterm search_phrase search_text search search_keyword "
        "keyword keywords q query_text querytext raw_query user_query term suchbegriff suchanfrage suchwort suche "
        "anfrage requete recherche terme busqueda consulta ricerca zoekterm zapytanie запрос 查询 搜索词 查询词 "
        "关键词 检索词 検索語 検索ワード クエリ 검색어 คำค้น คำค้นหา page_search_term search_string site_search_keyword site_search_term"
    ),
    "item_id": (
        "item_id itemid item product_id productid product sku asin article article_id articleid content_id "
        "object_id objectid object_ids goods_id item_sku product_sku variant_sku pid iid clicked_item_id artikel artikelnummer "
        "artikel_nr artikelnr produkt produkt_id produit id_produit article_no producto prodotto товар артикул 商品 "
        "商品id 商品编号 商品コード 商品番号 상품 상품코드 สินค้า parent_asin item_ids product_ids lineitem_sku url "
        "page_url handle content_ids product_view_sku"
    ),
    "kind": (
        "kind event event_type eventtype event_name eventname action action_type behavior behavior_type behaviour "
        "activity type interaction interaction_type ereignis ereignistyp aktion evenement evento azione действие "
        "событие 行为 行为类型 事件 事件类型 行動 イベント 이벤트 행동 เหตุการณ์"
    ),
    "impressed": (
        "impressed impressed_item_ids shown_item_ids "
        "impressions shown displayed results impression_items impression_list shown_items result_ids"
    ),
    "clicked": ("clicked clicks click clicked_items clicked_item_ids is_click is_clicked clicked_products click_list geklickt"),
    "carted": "carted added_to_cart add_to_cart cart is_cart cart_items basket is_added_to_cart warenkorb atc",
    "purchased": (
        "purchased purchases purchase orders bought ordered is_purchase is_purchased purchased_items purchased_item_ids "
        "order converted conversion is_ordered gekauft label_purchase"
    ),
    "gender": "gender sex geschlecht user_gender 性别",
    "age_bucket": "age_bucket age age_range age_group user_age alter",
    "region": "region country city state province user_region plz_region land",
    "scene": "scene channel_scene",
    "entrance": "entrance source page_type referrer_type",
    "grade": (
        "grade relevance relevance_grade relevance_label relevance_score judgement judgment judgement_grade esci_label human_label gain "
        "label rating score 相关性 相关性等级 関連度 관련도"
    ),
    "quantity": (
        "quantity qty menge anzahl quantite cantidad order_id transaction_id transactionid order_number "
        "bestellnummer lineitem_quantity"
    ),
}
"""Field → names of columns of logs, best first. ``quantity`` marks a log of orders."""

EVENT_KINDS: dict[str, str] = {
    "impressed": (
        "impression impressions impress show shown shows display displayed expose exposed exposure view_item_list "
        "item_list_view list_view product_impression search_result results view_search_results 曝光 展示 anzeige "
        "angezeigt"
    ),
    "viewed": "view views viewed pv seen product_seen ansicht vue vista visto просмотр",
    "clicked": (
        "click clicks clicked list_click clk pdp detail details detail_view details_view product_view product_viewed view_item "
        "item_view view_product viewproduct viewcontent view_content product_detail product_click select_item "
        "page_view_product pageview_product open opened favorite favourite fav favorites wishlist add_to_wishlist "
        "addtowishlist like klick geklickt clic cliquer clique clicca клик 点击 收藏 詳細 クリック 클릭 คลิก "
        "productpage product_page click_product productdetail tap select result_click search_click"
    ),
    "carted": (
        "add_to_cart addtocart cart add_cart cart_add basket add_to_basket addtobasket added_to_cart product_added "
        "add_to_bag atc carted warenkorb in_den_warenkorb ajout_panier panier carrito carrello корзина 加购 "
        "加入购物车 カート 장바구니 begin_checkout checkout initiate_checkout"
    ),
    "purchased": (
        "purchase purchases purchased completed order orders ordered transaction transactions buy buys bought sale sold "
        "conversion checkout_complete order_completed complete_purchase payment paid kauf gekauft bestellung "
        "bestellt achat commande compra acquisto koop zakup покупка заказ 购买 下单 成交 支付 購入 구매 주문 ซื้อ "
        "placed_order place_order"
    ),
    "searched": (
        "search searched query search_performed products_searched view_search suche gesucht recherche busqueda "
        "ricerca поиск 搜索 検索 검색 ค้นหา"
    ),
}
"""Kind of an event → its names. ``viewed`` means clicked in a log without any click, and impressed in one with clicks."""

IGNORED_KINDS = (
    "page_view pageview page_viewed cart_viewed view_cart first_visit user_engagement remove_from_cart "
    "removefromcart cart_remove product_removed remove refund return returned cancel cancelled "
    "session_start scroll login logout"
)
"""Names of events that are no interest in an item."""

__all__ = ["ATTRIBUTE_NAMES", "EVENT_KINDS", "IGNORED_KINDS", "LOG_NAMES", "PRODUCT_NAMES"]
