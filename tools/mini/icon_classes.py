"""The classes of the icon set, by group: `classname = other names that makers give the same thing`.

A classname is the plain word that most makers use. Only these names count, each as a whole: "car" takes in "car"
and "automobile" but neither "car battery" nor "race car". Names that makers use for different things are left out
("apple", also a company; "bow", "pin", "speaker", "table"), as are functions of a program ("align", "sort", "zoom in").
"""

GROUPS = {
    "animals": """
        ant
        bat
        bear = bear face, teddy face
        bee = honeybee, honey bee, bumblebee
        bird
        bug = beetle
        butterfly
        camel = two hump camel
        cat = cat face, kitty
        chicken = hen
        cow = cow face
        crab
        crocodile = alligator
        deer = stag
        dinosaur = dino, t rex, sauropod, trex
        dog = dog face
        dolphin
        dragon = dragon face
        duck
        eagle
        elephant
        fish = tropical fish
        fox = fox face
        frog
        giraffe
        goat
        gorilla
        hedgehog
        horse = horse face, horse head
        jellyfish
        kangaroo
        koala
        ladybug = lady beetle, ladybird
        lion = lion face
        lizard = gecko
        lobster
        monkey = monkey face
        mosquito
        octopus
        owl
        panda = panda face
        parrot
        peacock
        penguin
        pig = pig face
        rabbit = rabbit face, bunny
        rat
        rooster
        scorpion
        shark
        sheep = ewe, lamb
        shell = seashell, spiral shell, sea shell
        shrimp = prawn
        snail
        snake
        spider
        spider web = spiderweb, cobweb
        squid
        squirrel = chipmunk
        swan
        tiger = tiger face
        turtle = tortoise, sea turtle
        unicorn = unicorn face
        whale = spouting whale
        wolf
        worm
        paw print = paw, paw prints, paws, pawprint
        feather = quill
    """,
    "plants": """
        cactus
        clover = four leaf clover, shamrock, clover leaf
        flower = blossom
        leaf = leaves
        maple leaf
        mushroom
        palm tree = palm, tree palm
        pine tree = evergreen tree, evergreen, tree evergreen, tree pine, pine, conifer, fir tree
        rose
        seedling = sprout
        sunflower
        tree = deciduous tree, tree deciduous
        tulip
        wheat = sheaf of rice, grain
        potted plant = plant pot, house plant, houseplant, plant
        christmas tree = xmas tree, tree christmas
    """,
    "sky and weather": """
        cloud
        comet
        fire = flame
        fog = mist, foggy
        lightning = lightning bolt, bolt, high voltage, thunderbolt, zap
        meteor
        moon = crescent moon
        planet = ringed planet, saturn
        rain = cloud rain, cloud with rain, rainy, cloud rainy, rain cloud
        rainbow
        shooting star = star shooting
        snow = cloud snow, cloud with snow, snowy, cloud snowy, snow cloud
        snowflake
        snowman
        star
        sun = sunny
        sunrise
        sunset
        thermometer
        thunderstorm = cloud lightning, cloud bolt, cloud with lightning, storm, thunder, cloud thunder
        tornado
        umbrella
        water drop = droplet, drop, waterdrop, raindrop
        wave = waves, water wave
        wind = windy
        mountain = mountains
        volcano
        island = desert island
        globe = earth, world, globe showing americas, globe showing europe africa, globe showing asia australia
    """,
    "food and drink": """
        avocado
        bacon
        banana = bananas
        beer = beer mug, beer stein, mug beer, pint glass, beer glass
        bread = bread loaf, loaf
        broccoli
        bubble tea = boba, boba tea
        cake = birthday cake, cake birthday, shortcake
        candy = candies, sweet, sweets
        carrot
        cheese = cheese wedge
        cherry = cherries
        chocolate bar = chocolate
        cocktail = martini, martini glass, cocktail glass, glass cocktail, glass martini
        coffee = coffee cup, hot beverage, cup coffee
        cookie
        corn = ear of corn, corn cob, maize
        croissant
        cupcake = muffin
        donut = doughnut
        egg
        fried egg = egg fried, cooking
        eggplant = aubergine
        french fries = fries
        grapes = grape
        hamburger = burger
        hot dog = hotdog
        ice cream = ice cream cone, soft ice cream, icecream, cone ice cream
        popsicle = ice pop, ice lolly
        lemon
        lollipop
        meat = steak, cut of meat, beef
        drumstick = chicken leg, poultry leg, drumstick bite, meat on bone, turkey leg
        noodles = ramen, steaming bowl, bowl noodles
        onion
        orange = tangerine, orange fruit, mandarin
        peach
        pear
        chili pepper = pepper hot, hot pepper, chili, chilli, chilli pepper, red pepper, pepper
        pineapple
        pizza = pizza slice, slice pizza
        popcorn
        potato
        pretzel
        salad = green salad, bowl salad
        sandwich
        sausage
        soup = bowl food, soup bowl
        strawberry
        sushi
        taco
        tea = tea cup, teacup, teacup without handle
        teapot
        tomato
        waffle
        watermelon
        wine glass = wine, glass wine
        wine bottle = bottle wine
        milk = milk carton, glass of milk
        baby bottle = bottle baby, feeding bottle, milk bottle
        bottle = water bottle
        fork and knife = utensils, restaurant, fork knife, cutlery, knife fork, tools kitchen
        spoon
        chef hat = chef, chefs hat
        cooking pot = pot, pot food, pot of food, soup pot
        frying pan = pan
        honey = honey pot, honey jar
    """,
    "vehicles and travel": """
        airplane = plane, aeroplane, airplane mode, aircraft
        ambulance
        anchor
        bicycle = bike
        bus
        car = automobile
        drone
        ferry
        fire truck = fire engine, firetruck
        forklift
        fuel pump = gas pump, gas station, petrol pump, fuel station, petrol station
        helicopter
        hot air balloon = air balloon
        motorcycle = motorbike
        parachute
        police car = car police
        road
        rocket
        sailboat = sail boat, yacht, sailing boat, sailing
        satellite
        scooter = kick scooter, scooter electric, electric scooter
        ship = cruise ship, cargo ship
        signpost = sign post, direction sign
        steering wheel
        submarine
        suitcase = luggage
        taxi = cab
        tractor
        traffic cone
        traffic light = traffic lights, traffic signal, vertical traffic light
        train
        tram = streetcar
        truck = lorry, delivery truck, truck delivery
        van = shuttle van, minivan, van shuttle
        wheel = tire, tyre
        wheelchair = manual wheelchair
        map = world map
        map pin = map marker, location pin, map point, pin location, pin map, map location, location marker
        compass
        passport
        tent = camping tent, camp, camping
        binoculars = binocular
        stairs = staircase
        elevator = lift
        escalator
    """,
    "buildings": """
        bank = building bank, landmark, bank building
        bridge
        building = office building
        castle
        church
        city = cityscape, buildings
        factory
        fence
        ferris wheel
        fountain
        garage
        home = house
        hospital
        lighthouse
        mosque
        pyramid = pyramids
        school
        stadium
        store = shop, storefront, store front, shopfront
        circus tent
        warehouse
        windmill
        wind turbine = wind power, turbine
        campfire = camp fire, bonfire
        barn
        eiffel tower
        shinto shrine = torii gate, torii
    """,
    "tools and weapons": """
        axe
        bomb
        bow and arrow = archery
        broom
        brush = paintbrush, paint brush
        bucket = pail
        drill
        fire extinguisher
        flashlight
        gear = cog, cogwheel
        gun = pistol
        hammer
        knife = kitchen knife
        ladder
        magnet
        paint roller = paintroller, roller
        palette = artist palette, color palette, paint palette
        pickaxe = pick
        saw = carpentry saw, hand saw, handsaw
        scissors = scissor, cut
        screwdriver
        shield
        shovel = spade tool
        sword
        toolbox = tool box
        wrench = spanner
        crossed swords = swords, swords crossed, sword cross
        key
        chain = chains
        lock = padlock, locked
        unlock = lock open, unlocked, padlock open, open lock, lock unlocked, unlock alt
    """,
    "home": """
        alarm clock = alarm
        armchair
        baby carriage = stroller, baby stroller, pram, carriage baby
        balloon = balloons
        basket = shopping basket
        bathtub = bath, bath tub
        battery
        bed
        bell
        candle
        chair
        clock
        comb
        door
        fan
        faucet = tap, water tap
        fireplace
        fridge = refrigerator
        gift = wrapped gift, gift box, present
        hourglass = hourglass done
        kettle
        lamp
        light bulb = lightbulb, bulb
        microwave = microwave oven
        mirror
        oven = stove
        pillow
        plug = electric plug, power plug
        power socket = socket, outlet, power outlet
        shower = shower head
        soap
        sofa = couch
        sponge
        stopwatch
        teddy bear
        toilet
        toothbrush = tooth brush
        trash can = trash, trash bin, bin, garbage, wastebasket, dustbin, garbage can, rubbish bin
        vacuum cleaner = vacuum
        washing machine = washer, laundry machine
        watch = wristwatch, wrist watch
        party popper = confetti
    """,
    "clothes": """
        backpack = school bag
        boot = boots, womans boot, hiking boot
        bow tie = bowtie
        cap = baseball cap, billed cap
        crown
        dress
        glasses = eyeglasses, spectacles, eyeglass
        gloves = glove
        graduation cap = mortarboard, graduation hat, academic cap
        handbag = purse
        hanger = coat hanger, clothes hanger
        hat
        high heel = high heels, high heeled shoe, heels
        helmet = hard hat, helmet safety, safety helmet, construction helmet, rescue workers helmet
        jacket = coat
        lipstick
        pants = trousers, jeans
        ring = diamond ring, rings
        shoe = shoes, sneaker, running shoe, sneakers, mans shoe
        shorts
        skirt
        socks = sock
        sunglasses
        t-shirt = t shirt, tshirt, shirt, tee shirt
        tie = necktie
        top hat
    """,
    "devices": """
        antenna = satellite antenna, radio tower, broadcast tower, tower broadcast
        calculator
        camera = photo camera, camera photo
        cassette tape = cassette, tape cassette
        computer mouse = mouse
        cpu = microchip, processor, chip
        database
        disc = cd, compact disc, optical disk
        floppy disk = floppy, save, diskette, device floppy
        gamepad = game controller, game pad, controller, videogame controller, video game
        hard drive = hard disk, hdd, harddisk, harddrive
        headphones = headphone
        headset
        joystick
        keyboard
        laptop
        microphone = mic
        monitor = desktop, desktop computer, computer
        phone = telephone, telephone receiver, phone handset, handset
        printer = print
        projector
        qr code = qrcode
        radar
        radio
        remote control = remote, tv remote
        robot
        router = wifi router, wireless router
        sd card = memory card
        server = servers
        sim card = sim
        smartphone = mobile, mobile phone, cell phone, cellphone, device mobile, phone mobile, phone portrait
        tablet = device tablet, tablet device, tablet portrait, ipad
        television = tv
        usb = usb drive, usb stick, flash drive
        video camera = videocam, camcorder, camera video, movie camera
        vr headset = vr, vr glasses, virtual reality
        webcam
        walkie talkie
    """,
    "office and school": """
        abacus
        balance scale = justice scale, scale balance, scale justice
        bar chart = chart bar, chart column, bar graph
        barcode
        book = closed book, open book, book open
        bookmark
        books
        box = package, cardboard box, parcel
        briefcase
        calendar = spiral calendar
        clipboard
        crayon = crayons
        credit card = creditcard, bank card
        coin
        coins = stack of coins
        envelope = mail, email, e mail, letter
        eraser
        eyedropper = eye dropper, dropper
        file
        folder = file folder
        fountain pen = pen fountain, pen nib, nib, black nib
        gavel = auction, judge gavel, law hammer
        highlighter
        id card = identification card, identity card, identification
        inbox = inbox tray
        magnifying glass = search, magnifier, magnifying glass tilted left, magnifying glass tilted right
        mailbox = closed mailbox with raised flag
        megaphone = bullhorn, loudspeaker
        money bag = moneybag
        newspaper
        notebook
        paper plane = paper airplane, paperplane
        paperclip = paper clip, attachment
        pen
        pencil
        pie chart = chart pie
        piggy bank = piggybank
        presentation
        pushpin = thumbtack, push pin, drawing pin
        receipt
        ruler
        safe = vault
        scroll
        shopping bag
        shopping cart = cart, shopping trolley
        stamp = rubber stamp
        sticky note = note sticky
        tag = price tag
        ticket = tickets, admission tickets
        wallet
        compasses = drafting compass, drawing compass, geometry compass
    """,
    "play and sport": """
        american football = football american, rugby ball, rugby
        baseball
        basketball = basketball ball
        bowling = bowling ball, bowling pin, bowling pins
        boxing glove = boxing
        chess knight
        chess pawn = pawn
        chess rook = rook
        chess queen
        clapperboard = clapper board, clapper, movie clapper
        club = club suit, clubs, suit club, playing card club
        dice = game die, die
        dumbbell = dumbbells
        film = film strip, filmstrip, film frames
        fishing rod = fishing pole, fishing
        flag
        golf = flag in hole
        ice skate = ice skating
        kite
        magic wand = wand, wand magic, magic
        medal = sports medal, military medal
        playing cards = cards, poker, playing card
        podium
        puzzle piece = puzzle, jigsaw
        roller skate = roller skates
        skateboard
        ski = skis, skiing
        soccer ball = soccer
        spade = spade suit, spades, suit spade, playing card spade
        target = bullseye, dartboard
        tennis ball = ball tennis
        tennis racket = tennis racquet
        trophy = trophy cup
        volleyball = volleyball ball
        whistle
        yo-yo = yo yo, yoyo
    """,
    "music": """
        accordion
        drum = drums
        flute
        guitar = guitar electric, electric guitar, acoustic guitar
        music note = musical note, music, music notes, musical notes
        piano = piano keys, musical keyboard
        saxophone = sax
        trumpet
        violin
    """,
    "body and health": """
        bandage = adhesive bandage, band aid, plaster
        bone
        brain
        crutches = crutch
        dna
        ear
        eye
        fingerprint
        first aid kit = medical kit, first aid, medkit, medical bag
        foot = feet
        footprints = footprint, footsteps, foot print
        handshake
        heart
        kidney = kidneys
        lips = mouth
        liver
        lungs = lung
        nose
        pill = pills, capsule, capsules
        skull
        stethoscope
        stomach
        syringe
        thumbs up = thumb up
        thumbs down = thumb down
        tooth
        virus
        baby
        alien
        ghost
        broken heart = heart broken, heart crack, heart break
    """,
    "science and signs": """
        atom
        biohazard
        bluetooth
        cube
        flask = erlenmeyer flask, conical flask, laboratory flask
        infinity
        link
        microscope
        peace = peace symbol
        petri dish
        power button = power
        radioactive = radiation, nuclear
        recycle = recycling, recycling symbol
        telescope
        test tube = vial, test tubes
        wifi
        yin yang
        no entry
        star of david = judaism
    """,
}


# Drawings whose name is a class's but which show something else, found by looking at every class.
WRONG = """
carbon/anchor carbon/key carbon/package carbon/soccer carbon/storm cil/plant cil/school codicon/mirror codicon/remote
duo-icons/palette entypo/email fa-solid/football-ball fa6-solid/football-ball fa7-solid/football-ball famicons/radio
famicons/radio-outline famicons/radio-sharp famicons/school famicons/school-outline famicons/school-sharp
feather/radio flat-ui/car flat-ui/earth flat-ui/ring flat-ui/safe flat-ui/shirt flat-ui/wi-fi fluent-color/phone-48
fluent-emoji-flat/mouse fluent-emoji-high-contrast/mouse fluent-emoji/mouse fluent-mdl2/remote fluent-mdl2/shop
fluent/gas-24-filled fluent/gas-24-regular fluent/phone-32-light fluent/phone-48-filled fluent/phone-48-regular
fluent/remote-20-filled fluent/remote-20-regular fontisto/shopping-package gg/camera gg/controller gg/desktop gg/ghost
gg/presentation glyphs-poly/tablet glyphs/tablet glyphs/tablet-bold glyphs/tablet-duo glyphs/tablet-outline
griddy-icons/toilet griddy-icons/toilet-filled grommet-icons/restaurant grommet-icons/save grommet-icons/shop
grommet-icons/tree heroicons-outline/save heroicons-solid/save hugeicons/bolt hugeicons/compass-01 hugeicons/eraser-01
hugeicons/purse hugeicons/restaurant hugeicons/safe hugeicons/wave icon-park-outline/alarm icon-park-outline/anchor
icon-park-outline/balance icon-park-outline/compass icon-park-outline/envelope icon-park-outline/keyboard
icon-park-outline/link icon-park-outline/palm icon-park-outline/phone icon-park-outline/pot icon-park-outline/ring
icon-park-outline/rings icon-park-outline/stamp icon-park-outline/sunset icon-park-outline/telescope
icon-park-outline/thunderbolt icon-park-outline/waves icon-park-solid/alarm icon-park-solid/anchor
icon-park-solid/balance icon-park-solid/compass icon-park-solid/keyboard icon-park-solid/palm icon-park-solid/phone
icon-park-solid/pot icon-park-solid/ring icon-park-solid/rings icon-park-solid/stamp icon-park-solid/sunset
icon-park-solid/telescope icon-park-solid/thunderbolt icon-park-solid/waves icon-park-twotone/alarm
icon-park-twotone/anchor icon-park-twotone/balance icon-park-twotone/compass icon-park-twotone/keyboard
icon-park-twotone/palm icon-park-twotone/phone icon-park-twotone/pot icon-park-twotone/ring icon-park-twotone/rings
icon-park-twotone/stamp icon-park-twotone/sunset icon-park-twotone/telescope icon-park-twotone/thunderbolt
icon-park-twotone/waves icon-park/alarm icon-park/anchor icon-park/balance icon-park/compass icon-park/envelope
icon-park/keyboard icon-park/link icon-park/palm icon-park/phone icon-park/pot icon-park/ring icon-park/rings
icon-park/stamp icon-park/sunset icon-park/telescope icon-park/thunderbolt icon-park/waves iconoir/cutlery
iconoir/football-ball iconoir/gas icons8/notebook ion/radio ion/radio-outline ion/radio-sharp ion/school
ion/school-outline ion/school-sharp jam/cutlery jam/phone jam/thunder la/football-ball la/school lets-icons/alarm
lets-icons/alarm-fill lets-icons/cake lets-icons/e-mail lets-icons/e-mail-light lets-icons/flask lets-icons/ring
lets-icons/ring-fill lineicons/phone lsicon/hand-shake-filled lsicon/hand-shake-outline lsicon/purse-filled
lsicon/purse-outline lsicon/tree-filled lsicon/tree-outline lucide/bolt lucide/radio marketeq/cpu meteor-icons/radio
meteor-icons/wave mingcute/clock-2-fill mingcute/clock-fill mingcute/clock-line mingcute/mirror-fill
mingcute/mirror-line mingcute/palette-2-fill mingcute/pot-fill mingcute/pot-line mingcute/save-fill mingcute/save-line
mingcute/telescope-2-fill mingcute/wallet-2-fill mingcute/wine-fill mingcute/wine-line openmoji/inbox openmoji/mouse
openmoji/save openmoji/scales openmoji/scroll openmoji/spade pajamas/hamburger pepicons-pencil/camera
pepicons-pop/camera pepicons-print/camera pepicons/camera picon/bolt picon/compass picon/desktop picon/monitor
picon/phone picon/tree proicons/compass proicons/phone qlementine-icons/camera-16 qlementine-icons/compass-16
qlementine-icons/present-16 qlementine-icons/wave-24 raphael/palm reicon/dropper-filled reicon/handshake
reicon/handshake-duotone reicon/handshake-filled reicon/palette reicon/palette-filled reicon/plane-filled
reicon/star-2 ri/flashlight-fill ri/flashlight-line ri/scales-2-fill si-glyph/link-2 si-glyph/link-3
solar/dropper-2-bold solar/dropper-3-bold solar/dropper-bold solar/hand-shake-bold solar/hand-shake-broken
solar/hand-shake-linear solar/palette-bold solar/palette-broken solar/plane-2-bold solar/plane-3-bold solar/plane-bold
solar/star-2-bold stash/notebook stash/notebook-light stash/notebook-solid tabler/plant-2 tabler/rings tabler/school
tabler/school-filled tabler/storm tdesign/camera-1 tdesign/palette-1 tdesign/shop topcoat/phone topcoat/save
twemoji/mouse uiw/laptop uiw/pie-chart vaadin/controller vaadin/mailbox vs/wine weui/pencil-filled
weui/pencil-outlined weui/shop-filled weui/shop-outlined whh/law whh/stamp whh/wheel zondicons/color-palette
""".split()
# Near copies that thumbnails miss, by ImageNet features (EfficientNet-Lite0, pooled): a held-out drawing with a cosine
# of 0.985 or more to an earlier one of its class, and a training drawing with 0.98 or more to any held-out drawing.
COPIES = """
akar-icons/dice-1 akar-icons/globe basil/alarm-outline basil/chart-pie-outline basil/clock-outline bi/bluetooth bi/box
bi/credit-card bi/egg-fill bi/file bi/star-fill boxicons/alarm boxicons/alarm-filled boxicons/basketball
boxicons/basketball-filled boxicons/bolt boxicons/bolt-filled boxicons/bullseye boxicons/calendar-alt boxicons/cloud
boxicons/cube boxicons/database boxicons/egg-filled boxicons/envelope boxicons/envelope-filled boxicons/footsteps
boxicons/heart boxicons/heart-filled boxicons/laptop-filled boxicons/pie-chart boxicons/pie-chart-alt boxicons/pill
boxicons/search boxicons/search-filled boxicons/target boxicons/water-drop bx/alarm bx/atom bx/basketball bx/bullseye
bx/calendar bx/droplet bx/envelope bx/heart bx/magnet bx/pencil bx/pie-chart-alt-2 bx/search bxs/alarm bxs/basketball
bxs/dice-1 bxs/heart bxs/pie-chart bxs/pie-chart-alt bxs/search carbon/bluetooth charm/cube charm/star ci/chart-pie
ci/clock ci/mouse ci/planet ci/star ci/sun cuida/clock-outline cuida/power-outline cuida/search-outline el/qrcode
ep/clock ep/star eva/clock-outline eva/heart-fill eva/heart-outline eva/search-fill eva/search-outline eva/sun-outline
fad/bluetooth famicons/bowling-ball-outline famicons/finger-print-outline famicons/heart-outline
fluent/qr-code-28-regular fontisto/qrcode gg/eye gg/eye-alt gg/laptop gravity-ui/database-fill gravity-ui/magnifier
griddy-icons/cloud-alt-01 griddy-icons/search grommet-icons/star healthicons/chart-pie-outline-24px
healthicons/peace-24px healthicons/peace-outline-24px heroicons/star hugeicons/search-01 humbleicons/box
humbleicons/clock humbleicons/database humbleicons/desktop humbleicons/star icon-park-outline/bank
icon-park-outline/bar-code icon-park-outline/baseball icon-park-outline/basketball icon-park-outline/bluetooth
icon-park-outline/bone icon-park-outline/bowling icon-park-outline/carrot icon-park-outline/cat
icon-park-outline/cocktail icon-park-outline/cube icon-park-outline/film icon-park-outline/fingerprint
icon-park-outline/fog icon-park-outline/heart icon-park-outline/microphone icon-park-outline/paperclip
icon-park-outline/pencil icon-park-outline/power icon-park-outline/recycling icon-park-outline/road
icon-park-outline/rugby icon-park-outline/ruler icon-park-outline/snow icon-park-outline/snowflake
icon-park-outline/socks icon-park-outline/sunrise icon-park-outline/target icon-park-outline/thunderstorm
icon-park-outline/tree icon-park-outline/truck icon-park-outline/tv icon-park-outline/volleyball
icon-park-outline/wifi icon-park-outline/wind iconoir/bluetooth iconoir/planet ix/calculator ix/clock ix/cloud
ix/database ix/heart ix/package ix/piechart-filled ix/search ix/shield-filled la/egg line-md/phone
line-md/phone-filled line-md/phone-twotone ls/phone ls/search ls/tag lsicon/link-outline lsicon/search-filled
lsicon/wifi-filled lsicon/wifi-outline lucide/folder lucide/wifi mage/book-fill mage/heart mage/search
mage/search-fill mage/sun mage/sun-fill majesticons/bluetooth majesticons/bluetooth-line majesticons/book-open-line
majesticons/bookmark-line majesticons/camera-line majesticons/clock-line majesticons/eye majesticons/eye-line
majesticons/fish-line majesticons/flag-line majesticons/flask majesticons/keyboard majesticons/keyboard-line
majesticons/map-marker majesticons/search-line material-symbols/cloud material-symbols/music-note
material-symbols/pill-outline material-symbols/shield material-symbols/target mdi/atom mdi/bullseye mdi/cloud
mdi/cube-outline mdi/database-outline mdi/dice-1 mdi/egg-outline mdi/heart mdi/key mdi/map mdi/mouse mdi/music-note
mdi/peace meteor-icons/barcode mi/book mi/clock mi/cloud mi/email mi/heart mi/search mi/sun mi/sunrise mi/sunset
mingcute/star-fill mono-icons/book mono-icons/clock mono-icons/cloud mono-icons/email mono-icons/heart
mono-icons/search mono-icons/sun mono-icons/sunrise mono-icons/sunset mynaui/egg mynaui/heart mynaui/heart-solid
mynaui/power mynaui/power-solid mynaui/snow nimbus/eye nimbus/search nimbus/star nrk/bar-graph octicon/heart-24
octicon/heart-fill-24 octicon/paperclip-24 octicon/search-24 oi/infinity osmic/clock-14 ph/clock ph/flower-bold
ph/peace ph/star prime/search quill/search-alt quill/sun radix-icons/star-filled radix-icons/target ri/heart-fill
ri/target-line rivet-icons/heart-solid rivet-icons/magnifying-glass si/star-fill simple-line-icons/clock
simple-line-icons/magnifier stash/peace-symbol streamline-sharp/bluetooth streamline/heart-remix
streamline/magnifying-glass tabler/stethoscope tdesign/search teenyicons/fingerprint-solid uil/bolt-alt uil/bookmark
uil/bullseye uil/chart-pie uil/compact-disc uil/cube uil/envelope-alt uil/keyboard-alt uil/microphone uil/monitor
uil/mouse-alt uil/search uil/tennis-ball vadivam/cloud vadivam/scroll vadivam/target vadivam/thermometer vadivam/wifi
zmdi/cloud-outline zmdi/folder-outline zondicons/cloud
""".split()


def read_classes() -> list[dict]:
    """Classes in the order of their names: `classname`, `group`, `names` that makers use, `synonyms` among them.

    Of names that differ in spacing or in the order of their words ("tree pine") the first alone is a synonym.
    """
    classes = []
    for group, text in GROUPS.items():
        for line in filter(None, map(str.strip, text.splitlines())):
            classname, _, others = line.partition(" = ")
            names = [name.strip() for name in others.split(",") if name.strip()]
            seen, synonyms = {"".join(sorted(classname.replace(" ", "").replace("-", "")))}, []
            for name in names:
                letters = "".join(sorted(name.replace(" ", "").replace("-", "")))
                if letters not in seen:
                    synonyms.append(name)
                seen.add(letters)
            classes.append({"classname": classname, "group": group, "names": names, "synonyms": synonyms})
    return sorted(classes, key=lambda c: c["classname"])
